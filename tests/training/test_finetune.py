"""A checkpoint of Wan's layout is trained on a folder of videos, in whole or by a LoRA, and served.

Outputs are compared as in tests/model/test_lora.py: latents by relative norm, bound 1e-4; what
training changes moves them by a hundred bounds and more.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanPipeline
from safetensors.torch import load_file

from model.host import ServedModel
from model.pipeline import GenerationRequest, VideoPipeline
from serving import catalog
from tests.training.finetuning import configured, write_checkpoint
from tests.training.videos import even, write_video
from training.config import ConfigError
from training.data.prepare.__main__ import main as prepare
from training.data.prepare.__main__ import parse_arguments
from training.distances import described, kernel_distance
from training.train import main as train

# In this process, torch says that it is alone; from the command line nobody is told.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
SMALL: dict[str, Any] = {"height": 48, "width": 64, "num_frames": 5, "num_inference_steps": 2}
PROMPT = "a texture drifts left"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def data(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for k in range(4):
        write_video(folder / f"{k}.mp4", even(10, 10), seed=70 + k)
        (folder / f"{k}.txt").write_text(f"a texture drifts {'left' if k % 2 else 'right'}")
    out = tmp_path_factory.mktemp("data")
    told = ["--fps", "10", "--frames", "5", "--min-frames", "5", "--area", "64", "--workers", "1"]
    prepare(parse_arguments([str(folder), "-o", str(out), "--model", str(base), *told]))
    return out


@pytest.fixture(scope="module")
def lora_run(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("lora")
    train(configured(run, base, data, lora={"rank": 3, "alpha": 6.0}, data={"held_out": 0.3}))
    return run


def ours(pipeline: VideoPipeline, **changes: Any) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    decode = pipeline.decode
    pipeline.decode = lambda x: (seen.append(x), decode(x))[1]  # type: ignore[method-assign]
    try:
        pipeline.render(GenerationRequest(PROMPT, seed=3, guidance_scale=5.0, **SMALL, **changes))
    finally:
        del pipeline.decode
    return seen[0]


def theirs(folder: Path, lora: Path | None = None) -> torch.Tensor:
    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if lora:
        pipeline.load_lora_weights(str(lora.parent), weight_name=lora.name)
    made: torch.Tensor = pipeline(
        PROMPT, generator=torch.Generator().manual_seed(3), output_type="latent", **SMALL
    ).frames
    return made


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_a_lora_that_we_train_is_the_same_in_diffusers_and_leaves_the_base_alone(
    base: Path, lora_run: Path
) -> None:
    """Rank 3 and alpha 6, which the file tells; the base's own files are not touched."""
    file = lora_run / "loras" / "mine.safetensors"
    pipeline = VideoPipeline.from_pretrained(base, loras=lora_run / "loras")
    assert pipeline.description.loras == ("mine",)
    made, expected = ours(pipeline, lora="mine"), theirs(base, file)
    plain = ours(pipeline)
    print("lora", difference(made, expected), difference(made, plain))
    assert difference(made, expected) <= 1e-4 <= 1e-2 <= difference(made, plain)
    assert difference(plain, theirs(base)) <= 1e-4
    assert {len(v) for k, v in load_file(file).items() if "lora_A" in k} == {3}
    assert not (lora_run / "checkpoint").exists()


def test_all_of_a_transformer_is_trained_and_opens_everywhere(
    base: Path, data: Path, tmp_path: Path
) -> None:
    train(configured(tmp_path, base, data))
    folder = tmp_path / "checkpoint"
    pipeline = VideoPipeline.from_pretrained(folder)
    assert (pipeline.description.name, pipeline.description.sizes) == ("mine", ("64x48",))
    assert (pipeline.description.num_frames, pipeline.description.fps) == ((5,), 10)
    made = ours(pipeline)
    assert difference(made, theirs(folder)) <= 1e-4
    assert difference(made, theirs(base)) >= 1e-2
    for part in ("vae", "text_encoder"):
        (file,) = (folder / part).glob("*.safetensors")
        assert file.read_bytes() == (base / part / file.name).read_bytes()
    assert (tmp_path / "samples_0000003.png").exists()


def test_what_was_trained_is_served_without_a_hand_edit(base: Path, lora_run: Path) -> None:
    """`kinetograph models add` takes the base with the run's LoRAs; they are asked for by name."""
    models = lora_run / "models"
    catalog.add(models, "wan", str(base), lora_run / "loras")
    (entry,) = catalog.read(models)
    served = ServedModel(**entry.served())
    assert served.loras == lora_run / "loras"
    pipeline = VideoPipeline.from_pretrained(served.path, loras=served.loras)
    assert "mine" in pipeline.description.loras
    with pytest.raises(catalog.CatalogError, match="--loras nowhere: no such folder"):
        catalog.add(models, "other", str(base), Path("nowhere"))


def test_held_out_losses_are_told_by_time_and_the_best_is_kept(lora_run: Path) -> None:
    (row,) = map(json.loads, (lora_run / "validation.jsonl").read_text().splitlines())
    parts = [row[f"loss_{k / 5:.1f}_{(k + 1) / 5:.1f}"] for k in range(5)]
    assert row["held_out_loss"] == pytest.approx(sum(parts) / 5)
    assert json.loads((lora_run / "best.json").read_text()) == row
    best = lora_run / "best" / "loras" / "mine.safetensors"
    assert best.read_bytes() == (lora_run / "loras" / "mine.safetensors").read_bytes()


def test_an_image_conditioned_run_gives_the_first_frame(
    base: Path, data: Path, tmp_path: Path
) -> None:
    """Half the clips; the first frame's tokens stand at a time of at most 0.1, with no weight."""
    from training.batch import Batches
    from training.data.dataset import open_data
    from training.masks import first_frame

    told = configured(tmp_path, base, data, batch={"first_frame_share": 0.5, "image_share": 0.0})
    dataset, _ = open_data(told.data)
    batches = Batches(told, dataset, (1, 2, 2))
    packs = next(batches.stream(24))
    batch = batches.build(packs[0])
    assert batch.tokens.loss_weight is not None and batch.tokens.timestep_index is not None
    per_clip = batch.tokens.loss_weight.split(list(batch.tokens.segments.lengths))
    given = [bool((weights[: len(weights) // 2] == 0).all()) for weights in per_clip]
    assert any(given) and not all(given)
    silent = batch.tokens.timesteps[batch.tokens.timestep_index][batch.tokens.loss_weight == 0]
    assert (silent <= 100).all()
    assert first_frame((2, 3, 4)).clean.sum() == 12


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"lora": {"rank": 2, "targets": ("to_x",)}}, "lora.targets: 'to_x' is no layer"),
        ({"data": {"sets": {"elsewhere": 1.0}}}, "elsewhere has no index.parquet"),
    ],
)
def test_what_cannot_be_fine_tuned_is_refused(
    changes: dict[str, Any], sentence: str, base: Path, data: Path, tmp_path: Path
) -> None:
    told = configured(tmp_path, base, data, **changes)
    with pytest.raises(ConfigError, match=sentence):
        train(told)


def test_data_of_another_autoencoder_is_refused(base: Path, data: Path, tmp_path: Path) -> None:
    other = write_checkpoint(tmp_path / "other")
    config = json.loads((other / "vae" / "config.json").read_text())
    config["latents_mean"][0] += 1
    (other / "vae" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="was prepared with another vae"):
        train(configured(tmp_path / "run", other, data))


def interval(reference: torch.Tensor, found: torch.Tensor, draws: int = 200) -> list[float]:
    """Where 95 % of the distances of halves of both lie."""
    values = []
    for draw in range(draws):
        g = torch.Generator().manual_seed(draw)
        one, two = (some[torch.randperm(len(some), generator=g)[: len(some) // 2]]
                    for some in (reference, found))  # fmt: skip
        values.append(kernel_distance(one, two))
    return torch.tensor(values).quantile(torch.tensor([0.025, 0.975])).tolist()


def test_a_shuffled_set_is_farther_than_a_held_out_one() -> None:
    """Patterns that drift, 60 to compare with, 60 held out: 95 % intervals do not touch."""

    def clip(seed: int, shuffled: bool) -> torch.Tensor:
        g = torch.Generator().manual_seed(seed)
        pattern = torch.randn(6, 24, 24, generator=g)
        pattern = torch.nn.functional.avg_pool2d(pattern[None], 5, 1, 2)[0]
        step = 1 + seed % 3
        frames = torch.stack([pattern.roll(step * k, -1)[:, :12, :12] for k in range(7)], dim=1)
        return frames[:, torch.randperm(7, generator=g)] if shuffled else frames

    real, held, shuffled = (
        described(clip(seed, shuffled) for seed in range(first, first + 60))
        for first, shuffled in ((0, False), (100, False), (100, True))
    )
    near, far = interval(real, held), interval(real, shuffled)
    print("held out", kernel_distance(real, held), near)
    print("shuffled", kernel_distance(real, shuffled), far)
    assert near[0] < near[1] < far[0] < far[1]
