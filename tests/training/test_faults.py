"""What goes wrong ends with a sentence that says what to do, and with nothing lost."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import nn
from torch.optim import AdamW

from training.batch import Batches
from training.checkpoint import Checkpoints, StateMismatch, StateNotWritten, saved
from training.config import ConfigError, TrainConfig, load_config
from training.data.cache import LatentDataset
from training.ema import EMA
from training.files import no_room
from training.heartbeat import Heartbeat, says_lost
from training.network import check_start
from training.packing import Packer, PackStream
from training.parallel import check_launch, place
from training.precision import check_precision
from training.state import TrainState

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
MINUTE = timedelta(minutes=1)
HUNG = 280
"""Seconds after which a run counts as hung: on an idle machine the longest takes 30."""


def configured(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, ROOT / "configs/debug.yaml", list(overrides))


@pytest.mark.parametrize(
    ("overrides", "processes", "sentence"),
    [
        (["parallel.shard=2"], 1, r"replicate 1 x shard 2 x sequence 1 is 2, but 1 processes run"),
        ([], 2, r"is 1, but 2 processes run; start as many .* or change the three"),
        (["parallel.sequence=3"], 3, r"network\.heads: 2 is no multiple of 3"),
        (["parallel.replicate=2"], 2, r"batch\.packs: 1 is no multiple of 2"),
        (["parallel.sequence=2", "batch.tokens=1281"], 2, r"batch\.tokens: 1281 is no multiple"),
    ],
)
def test_an_impossible_mesh_is_refused(overrides: list[str], processes: int, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        place(configured(*overrides), processes, CPU, heads=2)


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_a_launch_file_that_shards_by_itself_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate hands its file down as such a variable; the sentence names the key to use."""
    monkeypatch.setenv(f"ACCELERATE_USE_{name}", "true")
    with pytest.raises(ConfigError, match=rf"asks for {name}; .*parallel\.shard splits"):
        check_launch()


def test_fp8_and_trackers_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"fp8 needs a GPU .*here is cpu.*'no' and 'bf16'"):
        check_precision(configured("precision=fp8"), CPU)
    with pytest.raises(ConfigError, match=r"tracker: wandb is not installed.*'tensorboard'"):
        check_start(configured("tracker=wandb"))


def dataset(sizes: list[tuple[int, int, int, int]]) -> LatentDataset:
    table = np.array(sizes, dtype=np.int64).reshape(-1, 4)
    bits = np.zeros(int(table.prod(axis=1).sum()), np.int16)
    offsets = np.concatenate([[0], table.prod(axis=1).cumsum()])[: len(table)]
    return LatentDataset(bits, bits, offsets, table, [f"clip {n}" for n in range(len(table))])


@pytest.mark.parametrize(
    ("sizes", "tokens", "sentence"),
    [
        ([], 64, r"data: there are 0 usable clips; raise data\.clips"),
        ([(1, 3, 8, 8), (5, 3, 8, 8)], 8, r"batch\.tokens: 8 hold none of the 2 clips.*takes 16"),
    ],
)
def test_no_usable_clip_is_an_error(
    sizes: list[tuple[int, int, int, int]], tokens: int, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Batches(configured(f"batch.tokens={tokens}"), dataset(sizes), (1, 2, 2)).stream(16)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (("batch.tokens=79",), r"batch\.tokens: 79, but clip 1 takes 80; allowed is no less"),
        (("batch.tokens=127", "network.reference_tokens=true"),
         r"127, but clip 1 takes 128, with what may be shown beside it; allowed is no less"),
    ],
)  # fmt: skip
def test_a_clip_that_no_pack_may_be_able_to_hold_is_named_at_the_start(
    told: tuple[str, ...], sentence: str
) -> None:
    """Not at the step that would take it; alone and as a part of more, what fits is packed."""
    clips = dataset([(1, 3, 8, 8), (5, 3, 8, 8), (3, 3, 8, 8)])
    with pytest.raises(ConfigError, match=sentence):
        Batches(configured(*told), clips, (1, 2, 2)).stream(16)
    Batches(configured(*told, "batch.image_share=1"), clips, (1, 2, 2)).stream(16)
    Batches(configured(*told, "batch.tokens=128"), clips, (1, 2, 2)).stream(16)


def state(data: str) -> TrainState:
    network = nn.Linear(3, 2)
    optimizer = AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    stream = PackStream(lambda position: 4, Packer(8, 4), ranks=1, window=1, width=4, seed=0)
    return TrainState(network, [optimizer], EMA(network, 0.9), stream, data, step=3)


@pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed")  # that there is one process
def test_a_state_of_other_data_is_refused(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, MINUTE)
    checkpoints.save(state("one"))
    checkpoints.wait()
    assert checkpoints.load_latest(state("one"))
    with pytest.raises(StateMismatch, match=r"data one, and the data is two; .*another run folder"):
        checkpoints.load_latest(state("two"))


@pytest.mark.filterwarnings("ignore::UserWarning:torch.distributed")  # that there is one process
def test_a_state_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    """Room is asked for only where there is none: here a file lies in the folder's place."""
    (tmp_path / "states").write_text("")
    checkpoints = Checkpoints(tmp_path, MINUTE)
    checkpoints.save(state("one"))
    with pytest.raises(StateNotWritten, match=r"Not a directory.*; mend that and start again"):
        checkpoints.wait()


def test_a_lost_process_is_the_one_that_ended_else_the_one_silent_for_longest(
    tmp_path: Path,
) -> None:
    heart = Heartbeat(tmp_path, MINUTE)
    heart._size = 3
    gone = next(n for n in range(40_000, 50_000) if not psutil.pid_exists(n))

    def sign(rank: int, pid: int, ago: float) -> None:
        told = {"step": 7, "time": time.time() - ago, "host": socket.gethostname(), "pid": pid}
        (tmp_path / "heartbeats" / f"rank_{rank}.json").write_text(json.dumps(told))

    sign(1, os.getpid(), 50)
    sign(2, gone, 1)
    assert "rank 2" in heart.lost() and "in step 8, 1 s ago" in heart.lost()
    sign(2, os.getpid(), 1)
    assert "rank 1" in heart.lost()
    assert says_lost(RuntimeError("[pair.cc:538] Connection closed by peer [127.0.0.1]:6211"))
    assert not says_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_errors_of_a_full_disk_are_known() -> None:
    assert no_room(OSError(28, "No space left on device"))
    assert no_room(RuntimeError("I/O error: File too large (os error 27)"))
    assert not no_room(OSError(2, "No such file or directory"))


# From here on, real processes.


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("faults")
    return [f"data.cache={folder}/cache", "data.clips=40", "batch.tokens=640", "batch.packs=2",
            "sample_every=1000", "sampling.num_inference_steps=1"]  # fmt: skip


def start(*overrides: str, **options: Any) -> subprocess.Popen[str]:
    launcher = options.pop("launcher", [sys.executable])
    return subprocess.Popen(
        [*launcher, "training/train.py", "--config", "configs/debug.yaml", *overrides],
        cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}, **options,
    )  # fmt: skip


@pytest.mark.proof
def test_a_loss_that_is_no_number_stops_the_run_before_the_weights(
    shared: list[str], tmp_path: Path
) -> None:
    """With an absurd rate step 2 overflows: its clips are named, the state before it stays."""
    rates = ["optim.lr=1e30", "optim.muon_lr=1e30", "optim.warmup_steps=0", "save_every=1"]
    process = start(*shared, *rates, f"run={tmp_path}")
    output, _ = process.communicate(timeout=HUNG)
    assert process.returncode == 1, output
    file = tmp_path / "stopped_0000002.jsonl"
    assert f"stopped before they reached the weights; {file} names the step's clips." in output
    clips = [json.loads(line) for line in file.read_text().splitlines()]
    assert sum(clip["tokens"] for clip in clips) <= 2 * 640
    assert all(0 <= clip["clip"] < 40 and clip["caption"] for clip in clips) and clips
    (folder,) = saved(tmp_path)
    assert folder.name == "step_0000001"


def limit_files() -> None:
    """No file may grow past 400 kB, as on a disk that is full; a state takes 2 MB."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))


@pytest.mark.proof
def test_on_a_full_disk_the_last_state_stays_and_the_run_goes_on_from_it(
    shared: list[str], tmp_path: Path
) -> None:
    first = start(*shared, f"run={tmp_path}", "steps=2")
    output, _ = first.communicate(timeout=HUNG)
    assert first.returncode == 0, output
    before = {path: path.read_bytes() for path in saved(tmp_path)[-1].iterdir()}
    full = start(*shared, f"run={tmp_path}", "steps=8", "save_every=2", preexec_fn=limit_files)
    output, _ = full.communicate(timeout=HUNG)
    assert full.returncode == 1 and "make room and start again" in output, output
    assert "Traceback" not in output
    assert {path: path.read_bytes() for path in saved(tmp_path)[-1].iterdir()} == before
    again = start(*shared, f"run={tmp_path}", "steps=3")
    output, _ = again.communicate(timeout=HUNG)
    assert again.returncode == 0 and "resuming at step 2" in output, output


@pytest.mark.proof
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_the_others_say_which_process_is_lost_and_end(
    how: signal.Signals, shared: list[str], tmp_path: Path
) -> None:
    """Killed, it is missed at once; stopped, within the timeout of a minute.

    Beyond the timeout the watching thread looks every six seconds, and accelerate's launcher gives
    a process that does not end half a minute.
    """
    launcher = [ROOT / ".venv/bin/accelerate", "launch", "--config_file",
                "configs/launch/cpu2.yaml"]  # fmt: skip
    process = start(
        *shared, f"run={tmp_path}", "parallel.shard=2", "steps=100000", "optim.decay_share=0",
        "parallel.timeout_minutes=1", launcher=launcher,
    )  # fmt: skip
    signs, deadline = tmp_path / "heartbeats" / "rank_1.json", time.monotonic() + 200
    while not signs.exists() or json.loads(signs.read_text())["step"] < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    lost = json.loads(signs.read_text())["pid"]
    os.kill(lost, how)
    struck = time.monotonic()
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        if process.poll() is None:  # the launcher's processes are in sessions of their own
            for left in [*psutil.Process(process.pid).children(recursive=True), process]:
                left.kill()
    seconds = time.monotonic() - struck
    print(f"\n{how.name}: all ended {seconds:.0f} s later")
    assert process.returncode != 0
    assert f"rank 1 (process {lost} on" in output and "is lost" in output, output
    assert "start again on as many processes as there are" in output
    assert seconds < (45 if how == signal.SIGKILL else 105)
