"""The launch files: what they start, with which arguments, and that a job told to end saves first.

srun, scontrol and, but for the last test, accelerate are stand-ins: this machine has no SLURM.
"""

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "configs/launch"
TOLD = ["--config", "configs/toy.yaml", "data.where=motion > 0.2", "data.mix={bite: 1, walk: 2}"]
HUNG = 280
"""Seconds after which a run counts as hung."""

# What the stand-in for accelerate starts: told to end, it needs a while to save.
TRAINING = """
trap 'sleep 1; echo saved >> "$SAVED"; exit 0' TERM
echo ready >> "$SAVED"
for _ in $(seq 300); do sleep 0.1; done
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> dict[str, str]:
    """The environment of a job on the second of three machines with four GPUs each."""
    commands = {
        "scontrol": "printf 'first\\nsecond\\nthird\\n'",
        "srun": 'exec "$@"',
        "accelerate": 'printf "%s\\n" "$@" > "$ARGUMENTS"\nbash -c "$TRAINING" & wait',
    }
    for name, body in commands.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "ARGUMENTS": str(tmp_path / "arguments"),
        "SAVED": str(tmp_path / "saved"), "TRAINING": TRAINING, "SLURM_NNODES": "3",
        "SLURM_GPUS_PER_NODE": "h100:4", "SLURM_NODEID": "1", "SLURM_JOB_NODELIST": "node[1-3]",
    }  # fmt: skip


def wait_for(what: str, file: Path) -> None:
    deadline = time.monotonic() + HUNG
    while not file.exists() or what not in file.read_text():
        assert time.monotonic() < deadline, f"no {what!r} in {file}"
        time.sleep(0.02)


@pytest.mark.parametrize("script", ["node.sh", "slurm.sh"])
def test_the_scripts_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n", LAUNCH / script], check=True)


@pytest.mark.parametrize(("file", "processes"), [("cpu2", 2), ("gpu8", 8), ("nodes", 32)])
def test_accelerate_reads_the_launch_files(file: str, processes: int) -> None:
    told = load_config_from_file(str(LAUNCH / f"{file}.yaml"))
    assert told.num_processes == processes and told.distributed_type.value == "MULTI_GPU"


def test_the_line_is_printed_and_nothing_is_started(stand_ins: dict[str, str]) -> None:
    """It can be pasted: read back by a shell, every argument is the one that was given."""
    done = subprocess.run(
        [LAUNCH / "slurm.sh", *TOLD], cwd=ROOT, env=stand_ins | {"DRY_RUN": "1"}, text=True,
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    line = shlex.split(done.stdout)
    assert line[0] == "srun" and line[-len(TOLD) - 1 :] == ["training/train.py", *TOLD]
    for pair in (
        ["--num_machines", "3"],
        ["--num_processes", "12"],
        ["--main_process_ip", "first"],
    ):
        place = line.index(pair[0])
        assert line[place : place + 2] == pair
    assert not Path(stand_ins["ARGUMENTS"]).exists()


def test_a_job_lasts_until_what_it_started_has_saved(stand_ins: dict[str, str]) -> None:
    """SIGTERM reaches the training's processes, and not the launcher, which has a limit."""
    saved = Path(stand_ins["SAVED"])
    job = subprocess.Popen([LAUNCH / "slurm.sh", *TOLD], cwd=ROOT, env=stand_ins)
    wait_for("ready", saved)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == 0
    assert saved.read_text() == "ready\nsaved\n"
    arguments = Path(stand_ins["ARGUMENTS"]).read_text().splitlines()
    assert arguments[:3] == ["launch", "--machine_rank", "1"] and arguments[-4:] == TOLD


def test_a_job_ends_as_what_it_started_did(stand_ins: dict[str, str]) -> None:
    told = stand_ins | {"TRAINING": "exit 3"}
    (Path(stand_ins["SAVED"]).parent / "accelerate").write_text('#!/bin/sh\nsh -c "$TRAINING"\n')
    assert subprocess.run([LAUNCH / "slurm.sh"], cwd=ROOT, env=told, timeout=60).returncode == 3


@pytest.mark.proof
def test_a_launch_that_is_told_to_end_saves_and_ends_well(tmp_path: Path) -> None:
    """accelerate itself and two processes over gloo: no error, and a state of the step reached."""
    process = subprocess.Popen(
        [LAUNCH / "node.sh", "--config_file", LAUNCH / "cpu2.yaml", "training/train.py", "--config",
         "configs/debug.yaml", f"run={tmp_path}", f"data.cache={tmp_path}/cache", "data.clips=40",
         "batch.tokens=640", "batch.packs=2", "parallel.replicate=2", "steps=100000",
         "optim.decay_share=0", "sample_every=100000", "save_every=100000"],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
                          "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"},
    )  # fmt: skip
    wait_for('"step": 3,', tmp_path / "metrics.jsonl")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=HUNG)
    assert process.returncode == 0, output
    assert "stopped by a signal at step" in output
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    (state,) = (tmp_path / "states").iterdir()
    assert state.name == f"step_{rows[-1]['step']:07d}"
