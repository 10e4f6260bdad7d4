"""Runs training/train.py, and kills all processes of the run (SIGKILL) at a given moment.

KILL_STEP is the step; KILL_WHEN is "step", once it is taken, or "write", when the data of its state
lie on the disk and what makes the state whole does not.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
from torch.distributed.checkpoint.filesystem import FileSystemWriter

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))

import train  # noqa: E402

from training.config import TrainConfig, parse_arguments  # noqa: E402
from training.log import Log  # noqa: E402

STEP, WHEN = int(os.environ["KILL_STEP"]), os.environ["KILL_WHEN"]
take, finish = Log.step, FileSystemWriter.finish


def kill() -> None:
    """The launcher first, so that it ends nobody in order; this process last."""
    launcher = psutil.Process().parent()
    assert launcher is not None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        family = [launcher, *launcher.children(recursive=True)]
        for process in (p for p in family if p.pid != os.getpid()):
            process.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def step(log: Log, number: int, *told: Any) -> None:
    take(log, number, *told)
    if WHEN == "step" and number == STEP and os.environ.get("RANK", "0") == "0":
        kill()


def finished(writer: FileSystemWriter, **told: Any) -> None:
    if WHEN == "write" and str(writer.path).endswith(f"{STEP:07d}.partial"):
        kill()
    finish(writer, **told)


if __name__ == "__main__":
    config = parse_arguments(TrainConfig, __doc__ or "")
    Log.step, FileSystemWriter.finish = step, finished  # type: ignore[method-assign]
    train.main(config)
