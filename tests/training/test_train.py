"""The training scripts from the outside: they run, learn, stop, and go on where they were."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from model.autoencoder import VideoAutoencoder
from model.pipeline import GenerationRequest, VideoPipeline
from training.checkpoint import saved
from training.config import ConfigError, TrainConfig, load_config
from training.files import alone
from training.network import check_start

ROOT = Path(__file__).parents[2]
STEPS = 40


def command(script: str, config: str, *overrides: str) -> list[str]:
    return [sys.executable, f"training/{script}.py", "--config", f"configs/{config}", *overrides]


def run(*arguments: str) -> str:
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides that point a debug run at an autoencoder and a cache shared by these tests."""
    folder = tmp_path_factory.mktemp("training")
    small = ("steps=4", "component_clips=8", "eval_clips=4", "hidden_channels=16", "batch=4")
    run(*command("train_autoencoder", "autoencoder.yaml", f"run={folder}/autoencoder", *small))
    return [
        f"data.autoencoder={folder}/autoencoder/vae",
        f"data.cache={folder}/cache",
        f"steps={STEPS}",
        "data.clips=40",
        "save_every=4",
        "sample_every=1000",
    ]


def final_state(folder: Path, before: int = 0) -> dict[str, Any]:
    """The newest state of a run, or one before it, whole, whatever processes wrote it."""
    whole = folder / "whole.pt"
    dcp_to_torch_save(saved(folder)[-1 - before], whole)
    state: dict[str, Any] = torch.load(whole, weights_only=False)
    return state | {"place": json.loads(state["place"])}


def assert_equal(one: Any, other: Any, path: str = "state") -> None:
    """Nested states are equal bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{path}[{i}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


@pytest.fixture(scope="module")
def uninterrupted(shared: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run(*command("train", "debug.yaml", f"run={folder}", *shared))
    return folder


def losses(folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row["loss"] for row in rows}


def interrupt(folder: Path, shared: list[str], after: int, number: int) -> int:
    """Start a run, send it a signal once it has taken `after` steps, and return its exit code.

    A step of the debug run takes some 50 ms, so of the steps left many remain when it arrives.
    """
    arguments = command("train", "debug.yaml", f"run={folder}", *shared)
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or len(losses(folder)) < after:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, number)
    return process.wait(timeout=60)


def test_a_run_ends_with_a_checkpoint_that_the_pipeline_opens(uninterrupted: Path) -> None:
    assert losses(uninterrupted).keys() == set(range(1, STEPS + 1))
    pipeline = VideoPipeline.from_pretrained(uninterrupted / "checkpoint")
    request = GenerationRequest("a red ball is dropped and bounces", num_inference_steps=2)
    video = pipeline.render(request)
    assert video.frames.shape == (17, 64, 64, 3)


def test_a_text_encoder_that_had_lessons_is_kept(uninterrupted: Path) -> None:
    """Trained on with the transformer, it would forget them within a few hundred steps."""
    one, other = (final_state(uninterrupted, before)["network"] for before in (1, 0))
    changed = {name.split(".")[0] for name in one if not torch.equal(one[name], other[name])}
    assert changed == {"transformer"}


@pytest.mark.proof
def test_after_sigterm_a_run_goes_on_bit_for_bit(
    uninterrupted: Path, shared: list[str], tmp_path: Path
) -> None:
    """Parameters, averages, optimizer states and losses equal those of a run never stopped."""
    assert interrupt(tmp_path, shared, after=6, number=signal.SIGTERM) == 0
    assert 6 <= final_state(tmp_path)["place"]["step"] < STEPS
    output = run(*command("train", "debug.yaml", f"run={tmp_path}", *shared))
    assert "resuming at step" in output
    assert_equal(final_state(tmp_path), final_state(uninterrupted))
    assert losses(tmp_path) == losses(uninterrupted)


@pytest.mark.proof
def test_after_kill_a_run_goes_on_from_its_last_save(
    uninterrupted: Path, shared: list[str], tmp_path: Path
) -> None:
    assert interrupt(tmp_path, shared, after=6, number=signal.SIGKILL) == -signal.SIGKILL
    assert final_state(tmp_path)["place"]["step"] in range(4, STEPS, 4)
    run(*command("train", "debug.yaml", f"run={tmp_path}", *shared))
    assert_equal(final_state(tmp_path), final_state(uninterrupted))


@pytest.mark.proof
def test_another_seed_is_another_run(
    uninterrupted: Path, shared: list[str], tmp_path: Path
) -> None:
    """The comparison of states can fail: one seed further, the parameters differ."""
    run(*command("train", "debug.yaml", f"run={tmp_path}", *shared, "seed=1"))
    with pytest.raises(AssertionError, match="state"):
        assert_equal(final_state(tmp_path), final_state(uninterrupted))


@pytest.mark.proof
def test_init_from_starts_at_the_averaged_weights(
    uninterrupted: Path, shared: list[str], tmp_path: Path
) -> None:
    """Weights are stored in bf16, so a start agrees to half a unit in 8 bits of mantissa (2^-9)."""
    source = uninterrupted / "checkpoint"
    run(*command("train", "debug.yaml", f"run={tmp_path}", *shared, "steps=1", "optim.lr=0",
                 "optim.muon_lr=0", f"init_from={source}"))  # fmt: skip
    averages = final_state(uninterrupted)["averages"]
    for name, value in final_state(tmp_path)["network"].items():
        if name in averages:
            torch.testing.assert_close(value, averages[name], rtol=2**-8, atol=1e-6)


def test_two_runs_do_not_share_a_folder(shared: list[str], tmp_path: Path) -> None:
    with alone(tmp_path):
        done = subprocess.run(
            command("train", "debug.yaml", f"run={tmp_path}", *shared),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 1
    assert f"{tmp_path} is being written by another process" in done.stderr


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.autoencoder=nowhere", "data.autoencoder: nowhere holds no autoencoder"),
        ("init_from=nowhere", "init_from: nowhere: model_index.json is missing"),
        ("network.max_sequence_length=16", "only that is allowed"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(
    override: str, sentence: str, uninterrupted: Path, shared: list[str]
) -> None:
    start = [*shared, f"init_from={uninterrupted / 'checkpoint'}", override]
    config = load_config(TrainConfig, ROOT / "configs/debug.yaml", start)
    with pytest.raises(ConfigError, match=sentence):
        check_start(config)


def test_a_start_on_latents_of_another_encoder_is_refused(
    uninterrupted: Path, shared: list[str], tmp_path: Path
) -> None:
    source = uninterrupted / "checkpoint"
    start = [*shared, f"init_from={source}"]
    check_start(load_config(TrainConfig, ROOT / "configs/debug.yaml", start))
    other = VideoAutoencoder.from_pretrained(source / "vae")
    with torch.no_grad():
        other.encoder.weight[0, 0] += 1e-3
    other.save_pretrained(tmp_path)
    config = load_config(
        TrainConfig, ROOT / "configs/debug.yaml", [*start, f"data.autoencoder={tmp_path}"]
    )
    with pytest.raises(ConfigError, match="encodes otherwise"):
        check_start(config)


def test_a_state_of_another_network_is_refused(
    uninterrupted: Path, shared: list[str], tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted / "states", tmp_path / "states")
    other = command("train", "debug.yaml", f"run={tmp_path}", *shared, "network.layers=1")
    done = subprocess.run(other, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "is of another network" in done.stderr


def test_a_wrong_key_ends_the_script_with_a_sentence() -> None:
    arguments = command("train", "debug.yaml", "stepz=3")
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "stepz: no such key; did you mean 'steps'?" in done.stderr
    assert "Traceback" not in done.stderr
