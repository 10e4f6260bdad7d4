"""One interface: the world, prepared data sets and mixtures, divided by source, never by clip."""

import json
import tarfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch

from model.autoencoder import VideoAutoencoder
from model.latents import encode_video
from model.manifest import Manifest
from model.pipeline import VideoPipeline
from model.text import build_text_encoder, build_tokenizer, encode_prompts
from tests.training.videos import even, write_video
from training.batch import Batches
from training.config import ConfigError, DataConfig, TrainConfig, load_config
from training.data.clips import covering, cropped, read_clip
from training.data.dataset import Mixture, open_data
from training.data.export import export
from training.data.prepare.__main__ import main, parse_arguments
from training.data.prepared import held_out_groups, open_prepared
from training.data.stats import stats
from training.train import main as train

ROOT = Path(__file__).parents[2]
CLIP = ["--fps", "10", "--frames", "9", "--min-frames", "5", "--area", "64", "--workers", "1"]
WORDS = ["a", "texture", "drifts", "left", "right", "slowly"]


def prepare(*arguments: str | Path) -> None:
    main(parse_arguments([*map(str, arguments), *CLIP]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As much of a checkpoint as encodes."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    vae = VideoAutoencoder(z_dim=4, hidden_channels=8, num_blocks=0,
                           latents_mean=(0.1,) * 4, latents_std=(2.0,) * 4)  # fmt: skip
    vae.save_pretrained(folder / "vae")
    tokenizer = build_tokenizer(WORDS)
    tokenizer.save_pretrained(folder / "tokenizer")
    build_text_encoder(len(tokenizer)).save_pretrained(folder / "text_encoder")
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").write_text('{"patch_size": [1, 2, 2]}')
    index = {
        "_class_name": "WanPipeline",
        "vae": ["model.autoencoder", "VideoAutoencoder"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "max_sequence_length": 12,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six films of 3 s in two sizes, and a copy of one of them in another form."""
    folder = tmp_path_factory.mktemp("videos")
    for k in range(6):
        write_video(folder / f"{k}.mp4", even(30, 10), ((64, 48), (48, 64))[k % 2], seed=60 + k)
        (folder / f"{k}.txt").write_text(f"a texture drifts {'left' if k % 2 else 'right'}")
    write_video(folder / "again.webm", even(30, 10), codec="libvpx-vp9", seed=60)
    return folder


@pytest.fixture(scope="module")
def prepared(model: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    prepare(videos, "-o", folder, "--model", model, "--where", "")
    return folder


def test_latents_and_embeddings_are_those_of_the_clip(prepared: Path, model: Path) -> None:
    """Encoded anew, they agree to bf16: 2^-8 of their size."""
    config = DataConfig(sets={str(prepared): 1.0}, autoencoder=model / "vae")
    dataset, held = open_data(config)
    rows = open_prepared(prepared, "", 0.0)[0].rows
    assert isinstance(dataset, Mixture) and held is None
    assert len(dataset) == len(rows) == 21, "of 7 x 30 frames, 3 x 9 each; 3 are left over"
    vae = VideoAutoencoder.from_pretrained(model / "vae")
    tokenizer = build_tokenizer(WORDS)
    encoder = build_text_encoder(len(tokenizer)).from_pretrained(model / "text_encoder")
    length = Manifest.of({"max_sequence_length": 12}).max_sequence_length
    for clip in (0, 11, len(rows) - 1):
        row = rows[clip]
        size = row["clip_width"], row["clip_height"]
        frames = cropped(read_clip(row, Fraction(10), covering(*size)), *size)
        video = torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            expected = encode_video(vae, video[None])[0]
            alone = encode_video(vae, video[None, :, 4:5])[0]
            text = encode_prompts([row["caption"]], tokenizer, encoder, length)[0]
            none = encode_prompts([""], tokenizer, encoder, length)[0]
        torch.testing.assert_close(dataset.latents(clip), expected, rtol=2**-8, atol=1e-6)
        torch.testing.assert_close(dataset.still_latents(clip, (1,)), alone, rtol=2**-8, atol=1e-6)
        assert dataset.size(clip) == expected.shape[1:]
        assert dataset.captions[clip] == row["caption"]
        for embedded, told in ((dataset.text(clip + 1), text), (dataset.text(0), none)):
            assert (told[len(embedded) :] == 0).all() and len(embedded) < length
            torch.testing.assert_close(embedded, told[: len(embedded)], rtol=2**-8, atol=1e-6)


def test_a_split_is_by_source_and_its_copies_and_stays_as_data_grows(
    prepared: Path, model: Path
) -> None:
    for share in (0.1, 0.3, 0.6):
        sides = open_prepared(prepared, "", share)
        groups = [{row["group"] for row in side.rows} for side in sides]
        assert groups[0] and groups[1] and not groups[0] & groups[1]
        assert sum(len(side.rows) for side in sides) == 21, "no clip is lost"
        shown = [{row["uri"].split("/")[-1] for row in side.rows} for side in sides]
        assert not shown[0] & shown[1], "no file is on both sides, whatever its group is called"
        assert any({"0.mp4", "again.webm"} <= names for names in shown), "they show the same"
        config = DataConfig(sets={str(prepared): 1.0}, held_out=share, autoencoder=model / "vae")
        trained, held = open_data(config)
        assert held is not None
        assert (len(trained), len(held)) == tuple(len(side.rows) for side in sides)
    names = [f"source {k}" for k in range(60)]
    few, many = held_out_groups(set(names[:30]), 0.3), held_out_groups(set(names), 0.3)
    assert few == many & set(names[:30]) and 10 <= len(many) <= 26, "18 of 60, and 3 deviations"


def test_a_video_held_out_of_one_set_is_trained_on_in_none(
    prepared: Path, model: Path, videos: Path, tmp_path: Path
) -> None:
    """The same films in two data sets, one cut otherwise."""
    prepare(videos, "-o", tmp_path, "--model", model, "--where", "", "--frames", "13")
    sets = {str(prepared): 1.0, str(tmp_path): 1.0}
    trained, held = open_data(DataConfig(sets=sets, held_out=0.4, autoencoder=model / "vae"))
    assert held is not None and set(trained.captions) | set(held.captions)
    groups = [
        {row["group"] for folder in sets for row in open_prepared(Path(folder), "", 0.4)[k].rows}
        for k in range(2)
    ]
    assert not groups[0] & groups[1]


def test_weights_are_shares_of_visits_and_every_clip_is_visited_equally(
    prepared: Path, model: Path, tmp_path: Path
) -> None:
    """21 prepared clips and 6 of the world, 3 to 1: exact in every epoch; visits differ by one."""
    config = DataConfig(
        sets={str(prepared): 3.0, "world:": 1.0}, clips=6, mix={"drop": 1.0},
        autoencoder=model / "vae", cache=tmp_path, workers=1,
    )  # fmt: skip
    dataset, _ = open_data(config)
    assert (len(dataset), dataset.epoch) == (27, 28)
    for epochs in (1, 5):
        visits = Counter(dataset.visit(s, e) for e in range(epochs) for s in range(dataset.epoch))
        ours = [visits[clip] for clip in range(21)]
        worlds = [visits[clip] for clip in range(21, 27)]
        assert sum(ours) == 3 * sum(worlds) == epochs * 21
        assert max(ours) - min(ours) <= 1 and max(worlds) - min(worlds) <= 1
    told = load_config(
        TrainConfig, ROOT / "configs/debug.yaml",
        ["batch.tokens=512", "batch.image_share=0.2", "network.reference_tokens=true"],
    )  # fmt: skip
    batches = Batches(told, dataset, (1, 2, 2))
    packs = next(batches.stream(64))
    batch = batches.build(packs[0])
    assert batch.tokens.patches.isfinite().all() and len(batch.rows) == len(packs[0].ids)


def test_a_fingerprint_is_of_clips_captions_and_choice(prepared: Path, model: Path) -> None:
    def of(**changes: object) -> str:
        told = {"sets": {str(prepared): 1.0}, "autoencoder": model / "vae", **changes}
        return open_data(DataConfig.model_validate(told))[0].fingerprint

    same, other = of(), of(where="motion > 0.05 and width > height")
    assert same == of() != other and of(held_out=0.3) != same


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sets": {"nowhere": 1.0}}, "nowhere has no index.parquet"),
        ({"where": "moton > 3"}, "no column 'moton'"),
        ({"where": "motion > 99"}, "has 0 clips to train on; change data.where"),
    ],
)
def test_what_cannot_be_opened_is_said_in_a_sentence(
    changes: dict[str, object], sentence: str, prepared: Path, model: Path
) -> None:
    told = {"sets": {str(prepared): 1.0}, "autoencoder": model / "vae", **changes}
    with pytest.raises(ConfigError, match=sentence):
        open_data(DataConfig.model_validate(told))


def test_without_families_there_is_no_world() -> None:
    with pytest.raises(ValueError, match="mix is needed for the world's clips; families are bite"):
        DataConfig(autoencoder=Path())


def test_statistics_count_what_is_there(prepared: Path) -> None:
    found = stats(prepared, "width > height", 0.3)
    assert (found["files"], found["clips"], found["chosen"]) == (7, 21, 12)
    assert found["sources"]["trained on"] + found["sources"]["held out"] == 3
    assert found["hours"] == round(12 * 9 / 10 / 3600, 4)
    assert found["tokens"] > 0 and found["license"] == {"not said": 12}


def test_tars_go_out_as_they_come_in(prepared: Path, model: Path, tmp_path: Path) -> None:
    """WebDataset's form, as HF datasets read it; prepared again, the same clips and captions."""
    assert export(prepared, tmp_path / "tars", "", 10) == 21
    tars = sorted((tmp_path / "tars").iterdir())
    assert [tar.name for tar in tars] == ["000000.tar", "000001.tar", "000002.tar"]
    with tarfile.open(tars[0]) as tar:
        suffixes = [name.split(".")[1] for name in tar.getnames()]
    assert suffixes == ["mp4", "txt", "json"] * 10
    stream = datasets.load_dataset(
        "webdataset", data_files=list(map(str, tars)), split="train", streaming=True
    ).cast_column("mp4", datasets.Video(decode=False))
    samples = {sample["__key__"]: sample for sample in stream}
    told = {row["id"]: row for row in open_prepared(prepared, "", 0.0)[0].rows}
    assert samples.keys() == told.keys()
    for name, sample in samples.items():
        assert sample["txt"] == told[name]["caption"] and sample["mp4"]["bytes"][4:8] == b"ftyp"
        assert sample["json"]["sha256"] == told[name]["sha256"]
    prepare(tmp_path / "tars", "-o", tmp_path / "out")
    again = open_prepared(tmp_path / "out", "True", 0.0)[0]
    assert sorted(again.captions) == sorted(open_prepared(prepared, "", 0.0)[0].captions)
    assert np.all([row["frames"] in (5, 9) for row in again.rows])


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_network_is_trained_from_scratch_on_prepared_clips(
    prepared: Path, model: Path, tmp_path: Path
) -> None:
    """It learns the captions' words, its own text encoder first, and the pipeline opens it."""
    told = [
        f"run={tmp_path}", "steps=2", "text.steps=2", "text.batch=4", "batch.tokens=1024",
        "data.mix={}", f"data.sets={{{prepared}: 1}}", "data.held_out=0.3",
        f"data.autoencoder={model}/vae", "sampling.num_inference_steps=1", "data.slots={}",
    ]  # fmt: skip
    train(load_config(TrainConfig, ROOT / "configs/debug.yaml", told))
    pipeline = VideoPipeline.from_pretrained(tmp_path / "checkpoint")
    description = pipeline.description
    assert set(description.sizes) == {"64x48", "48x64"} and description.num_frames == (9,)
    assert set(description.examples or ()) == {f"a texture drifts {s}" for s in ("left", "right")}
    row = json.loads((tmp_path / "validation.jsonl").read_text())
    assert row["held_out_loss"] > 0 and (tmp_path / "best" / "checkpoint").is_dir()
