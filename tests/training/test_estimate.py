"""The dry run: its estimate is what a run takes, and what cannot fit is refused by name."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from training import estimate
from training.config import ConfigError, TrainConfig, load_config
from training.data.cache import LatentDataset
from training.network import build_world_tokenizer

ROOT = Path(__file__).parents[2]
WAYS = ("none", "selective", "full")
SMALL = (
    "data.clips=64", "batch.tokens=4096", "network.heads=4", "network.layers=4",
    "network.ffn_dim=512", "sampling.num_inference_steps=1",
)  # fmt: skip


def configured(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, ROOT / "configs/debug.yaml", [*SMALL, *overrides])


@pytest.fixture(scope="module")
def dataset() -> LatentDataset:
    return estimate.preview(configured())


def estimated(config: TrainConfig, dataset: LatentDataset) -> estimate.Estimate:
    fake, device = FakeTensorMode(), torch.device("cpu")
    with fake:
        network = estimate.outline(config, build_world_tokenizer(config), dataset.channels)
    packs = estimate.fullest(config, dataset, network)
    return estimate.estimate(config, dataset, network, packs, fake, device)


def test_the_estimate_is_within_a_fifth_of_what_a_run_takes(
    dataset: LatentDataset, tmp_path: Path
) -> None:
    """Of all that torch allocates in two steps, for each way of checkpointing; the bar is 20 %."""
    run = [f"run={tmp_path}", f"data.cache={tmp_path}/cache", "steps=2", "save_every=1000"]
    script = ROOT / "tests/training/measured.py"
    done = subprocess.run(
        [sys.executable, script, "--config", "configs/debug.yaml", *SMALL, *run],
        cwd=ROOT, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("peak ")]
    measured = {way: int(count) for _, way, count in lines}
    assert list(measured) == list(WAYS)
    for way in WAYS:
        found = estimated(configured(f"parallel.checkpointing={way}"), dataset).peak
        print(f"{way}: {found / 1e6:.0f} MB estimated, {measured[way] / 1e6:.0f} MB measured")
        assert abs(found / measured[way] - 1) <= 0.2, (way, found, measured[way])
    assert measured["none"] > 2 * measured["full"], "or the three could not be told apart"


def test_shares_of_state_and_of_a_sequence_are_counted_as_such(dataset: LatentDataset) -> None:
    whole = estimated(configured(), dataset)
    shard = estimated(configured("parallel.shard=2", "batch.packs=2"), dataset)
    assert shard.state == whole.state // 2 and shard.gathered > 0
    sequence = estimated(configured("parallel.sequence=2"), dataset)
    assert sequence.state == whole.state and sequence.step < 0.65 * whole.step


def found(**parts: int) -> estimate.Estimate:
    return estimate.Estimate(**{"weights": 4, "averages": 4, "moments": 8, "gathered": 0} | parts)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"step": 90}, r"batch\.tokens: 4096; .* lower it to about 3094, or .*checkpointing=full"),
        ({"step": 9, "weights": 90}, r"parallel\.shard: 1; .* split it over more processes"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_value_to_lower(
    parts: dict[str, int], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 100 bytes: on a CPU the state is there twice while it is written."""
    monkeypatch.setattr(estimate, "_memory", lambda device: 100)
    estimate.check_fit(configured(), found(step=68), torch.device("cpu"))
    with pytest.raises(ConfigError, match=sentence):
        estimate.check_fit(configured(), found(**parts), torch.device("cpu"))


def test_the_script_prints_it_and_touches_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "training/train.py", "--config", "configs/debug.yaml", "--dry-run",
         f"run={run}", *SMALL],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "memory of a process (cpu): " in done.stdout and "1 packs of 4096 tokens" in done.stdout
    assert not run.exists()


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ("parallel.shard=2", r"batch\.packs: 1 is no multiple of 2"),
        ("parallel.sequence=3", r"network\.heads: 4 is no multiple of 3"),
    ],
)
def test_what_a_run_could_not_share_is_refused_beforehand(told: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        estimate.dry_run(configured(told))
