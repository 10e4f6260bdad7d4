"""docs/finetune.md, walked as a new user would: its commands, as they stand, one after another."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from model.pipeline import GenerationRequest, VideoPipeline
from serving import catalog
from training.config import TrainConfig, load_config
from training.data.prepare.rows import SCHEMA

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "finetune.md").read_text("utf-8")
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.M | re.S)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project as a user has it, but for what commands write."""
    for entry in ROOT.iterdir():
        if entry.name not in ("out", "runs", "data"):
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def test_the_page_names_columns_and_keys_that_there_are() -> None:
    columns = PAGE.split("| column |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([a-z_]+)`", columns)) - {"sdr", "pq", "hlg"}
    assert named <= set(SCHEMA.names) and len(named) > 15
    config = load_config(TrainConfig, ROOT / "configs" / "finetune.yaml", [])
    assert config.lora.rank and config.text.cached


@pytest.mark.proof
def test_every_command_of_the_page_works_as_it_stands(checkout: Path) -> None:
    """With a twelfth of the steps; the LoRA is then asked for by name."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for block in BLOCKS:
        command = block.replace("configs/finetune.yaml", "configs/finetune.yaml steps=5")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=checkout, env=environment,
            capture_output=True, text=True, timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        print(done.stdout[-300:])
    (entry,) = catalog.read(checkout / "out" / "models")
    pipeline = VideoPipeline.from_pretrained(entry.path, loras=Path(entry.loras or ""))
    assert pipeline.description.loras == ("ink",)
    plain, styled = (
        pipeline.render(
            GenerationRequest("a red ball is dropped and bounces", lora=lora, num_inference_steps=2)
        ).frames
        for lora in (None, "ink")
    )
    assert plain.shape == styled.shape and (plain != styled).any()
    page = (checkout / "out" / "dataset" / "report.html").read_text()
    assert "clips kept of 8, from 8 files" in page
