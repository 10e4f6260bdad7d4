"""The stages of a training, each of which goes on from the one before."""

import subprocess
import sys
from pathlib import Path

import pytest

from model.pipeline import VideoPipeline
from training.config import TrainConfig, load_config

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "stages").glob("*.yaml"))


def stages() -> list[TrainConfig]:
    return [load_config(TrainConfig, path, []) for path in FILES]


def test_there_are_four_from_images_to_long_clips() -> None:
    assert [path.stem for path in FILES] == ["1-image", "2-low", "3-high", "4-long"]
    first, *rest = stages()
    assert first.batch.image_share == 1 and first.init_from is None
    assert all(stage.batch.image_share < 1 for stage in rest)


def pixels(stage: TrainConfig) -> int:
    return min(int(w) * int(h) for w, h in (size.split("x") for size in stage.data.sizes))


def test_each_starts_from_the_checkpoint_of_the_one_before_and_fits_it() -> None:
    """The same words, pads and latents; clips never get smaller or shorter."""
    for before, stage in zip(stages(), stages()[1:], strict=False):
        assert stage.init_from == before.run / "checkpoint"
        assert stage.network.max_sequence_length == before.network.max_sequence_length
        assert stage.data.autoencoder == before.data.autoencoder
        assert set(before.data.mix) <= set(stage.data.mix)
        assert pixels(stage) >= pixels(before)
        assert stage.data.frames >= before.data.frames or before.batch.image_share == 1
        assert stage.optim.lr <= before.optim.lr


@pytest.mark.proof
def test_four_short_stages_end_in_a_checkpoint_of_the_last_size(tmp_path: Path) -> None:
    for path in FILES:
        told = load_config(TrainConfig, path, [])
        run = [f"run={tmp_path / told.run.name}"]
        if told.init_from:
            run.append(f"init_from={tmp_path / told.init_from.parent.name / 'checkpoint'}")
        done = subprocess.run(
            [sys.executable, "training/train.py", "--config", path, *run, "steps=2",
             "data.clips=12", "data.workers=1", f"data.cache={tmp_path}/cache", "compile=false",
             "batch.tokens=640", "batch.window=1", "batch.open_packs=2", "network.layers=1",
             "network.heads=2", "network.ffn_dim=64", "sampling.num_inference_steps=1",
             "precision=no"],
            cwd=ROOT, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    description = VideoPipeline.from_pretrained(tmp_path / "long" / "checkpoint").description
    assert description.sizes[0] == "64x64" and description.num_frames[0] == 17
