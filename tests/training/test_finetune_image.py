"""Wan's image-to-video networks, which read the image as channels, are fine-tuned and served, too.

Outputs are compared as in test_finetune.py: latents by relative norm, bound 1e-4; what training
changes moves them by a hundred bounds and more. Both forms: channels alone, and channels with the
tokens of an image encoder beside the text (Wan2.1).
"""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from PIL import Image
from torch import Tensor

from model.conditions import encode_conditions
from model.host import ServedModel
from model.pipeline import GenerationRequest, VideoPipeline
from model.request import resolve
from model.tokens import unpatchify
from serving import catalog
from tests.training.finetuning import configured, write_checkpoint
from tests.training.videos import even, picture, write_video
from training.batch import Batches
from training.config import ConfigError
from training.data.dataset import open_data
from training.data.decode import Video
from training.data.prepare.__main__ import main as prepare
from training.data.prepare.__main__ import parse_arguments
from training.data.prepared import open_prepared
from training.tasks import FineTuning
from training.train import main as train

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
SMALL: dict[str, Any] = {"height": 48, "width": 64, "num_frames": 5, "num_inference_steps": 2}
PROMPT = "a texture drifts left"
NO_STILLS = {"image_share": 0.0}


@pytest.fixture(scope="module", params=["image", "seen image"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("base"), starts=request.param)


@pytest.fixture(scope="module")
def data(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, out = tmp_path_factory.mktemp("films"), tmp_path_factory.mktemp("data")
    for k in range(4):
        write_video(folder / f"{k}.mp4", even(5, 10), seed=70 + k)
        (folder / f"{k}.txt").write_text(f"a texture drifts {'left' if k % 2 else 'right'}")
    told = ["--fps", "10", "--frames", "5", "--min-frames", "5", "--area", "64", "--workers", "1"]
    prepare(parse_arguments([str(folder), "-o", str(out), "--model", str(base), *told]))
    return out


@pytest.fixture(scope="module")
def lora_run(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("lora")
    changes = {"lora": {"rank": 3}, "data": {"held_out": 0.3}, "batch": NO_STILLS}
    train(configured(run, base, data, **changes))
    return run


def shown() -> Image.Image:
    return Image.fromarray(picture(3, 64, 48, 99))


def ours(pipeline: VideoPipeline, **changes: Any) -> Tensor:
    seen: list[Tensor] = []
    decode = pipeline.decode
    pipeline.decode = lambda x: (seen.append(x), decode(x))[1]  # type: ignore[method-assign]
    try:
        request = GenerationRequest(
            PROMPT, image=shown(), seed=3, guidance_scale=5.0, **SMALL, **changes
        )
        pipeline.render(request)
    finally:
        del pipeline.decode
    return seen[0]


def theirs(folder: Path, lora: Path | None = None) -> Tensor:
    pipeline = WanImageToVideoPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if lora:
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name)
    noise = torch.Generator().manual_seed(3)
    told = {"generator": noise, "output_type": "latent", **SMALL}
    made: Tensor = pipeline(shown(), PROMPT, **told).frames
    return made


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_a_lora_is_served_by_name_and_is_the_same_in_diffusers(base: Path, lora_run: Path) -> None:
    """`kinetograph models add` takes the base with the run's LoRAs; samples were drawn, too."""
    catalog.add(lora_run / "models", "wan", str(base), lora_run / "loras")
    (entry,) = catalog.read(lora_run / "models")
    served = ServedModel(**entry.served())
    pipeline = VideoPipeline.from_pretrained(served.path, loras=served.loras)
    assert "first_frame" in pipeline.description.capabilities
    made, plain = ours(pipeline, lora="mine"), ours(pipeline)
    expected = theirs(base, lora_run / "loras" / "mine.safetensors")
    print("lora", difference(made, expected), difference(made, plain))
    assert difference(made, expected) <= 1e-4 <= 1e-2 <= difference(made, plain)
    assert difference(plain, theirs(base)) <= 1e-4
    assert (lora_run / "samples_0000003.png").exists()
    row = json.loads((lora_run / "validation.jsonl").read_text())
    assert row["held_out_loss"] > 0


def test_all_of_the_transformer_is_trained_too(base: Path, data: Path, tmp_path: Path) -> None:
    train(configured(tmp_path, base, data, steps=2, batch=NO_STILLS))
    folder = tmp_path / "checkpoint"
    made = ours(VideoPipeline.from_pretrained(folder))
    assert difference(made, theirs(folder)) <= 1e-4
    assert difference(made, theirs(base)) >= 1e-2


def test_training_shows_the_network_what_sampling_shows_it(base: Path, data: Path) -> None:
    """Channels and image tokens of a clip are those of a request that starts from its first frame.

    To bf16, 2^-8 of their size. A clip whose caption is left out keeps its image.
    """
    config = configured(Path("unused"), base, data, batch={**NO_STILLS, "text_dropout": 1.0})
    dataset, _ = open_data(config.data)
    pipeline = VideoPipeline.from_pretrained(base)
    first = Path(open_uri(data, dataset.captions[0]))
    settings = resolve(GenerationRequest(PROMPT, image=frame(first), **SMALL), pipeline.description)
    given = encode_conditions(pipeline.components, settings)
    batches = Batches(config, dataset, (1, 2, 2))
    packs = next(batches.stream(24))
    batch = batches.build(packs[0])
    assert batch.rows.eq(0).all(), "captions are left out"
    assert given.channels is not None
    of_clips = batch.tokens.patches.split(list(batch.tokens.segments.lengths))
    channels = [
        unpatchify(part.unflatten(1, (36, -1)).transpose(1, 2).flatten(1), (2, 3, 4), (1, 2, 2))
        for part in of_clips
    ]
    near = [difference(one[:, 16:], given.channels) for one in channels]
    places = [k for k, value in enumerate(near) if value <= 2**-8]
    assert places and len(places) < len(near), near
    if given.image_tokens is None:
        assert not batch.images
        return
    (images,) = batch.images
    assert len(images) == len(of_clips)
    close = [difference(one, given.image_tokens[0]) <= 2**-8 for one in images]
    assert [k for k, yes in enumerate(close) if yes] == places


def open_uri(data: Path, caption: str) -> str:
    """The file of the first clip of a caption."""
    rows = open_prepared(data, "", 0.0)[0].rows
    uri: str = next(row["uri"] for row in rows if row["caption"] == caption)
    return uri.removeprefix("file://")


def frame(path: Path) -> Image.Image:
    with path.open("rb") as file, Video(file) as video:
        _, pixels = next(video.seen(Fraction(10), lambda w, h: (w, h)))
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ({"image_share": 0.2}, "batch.image_share: 0.2, but .* always reads a first frame"),
        ({**NO_STILLS, "first_frame_share": 0.5}, "batch.first_frame_share: 0.5, but"),
    ],
)
def test_shares_that_cannot_be_are_refused(
    batch: dict[str, Any], sentence: str, base: Path, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        train(configured(tmp_path, base, data, batch=batch))


def test_a_network_that_starts_from_two_frames_is_refused(data: Path, tmp_path: Path) -> None:
    both = write_checkpoint(tmp_path / "both", starts="seen image", pos_embed_seq_len=34)
    with pytest.raises(ConfigError, match="init_from: .* starts from a first and a last frame"):
        train(configured(tmp_path / "run", both, data, batch=NO_STILLS))


def test_data_of_a_network_that_starts_otherwise_is_refused(
    base: Path, data: Path, tmp_path: Path
) -> None:
    text = write_checkpoint(tmp_path / "text")
    config = configured(tmp_path, text, data)
    dataset, _ = open_data(config.data)
    with pytest.raises(ConfigError, match="was prepared for a network that starts from an image"):
        FineTuning(config, dataset)
