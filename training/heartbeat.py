"""Signs of life: by them the processes that are left say which one is lost.

Each process notes in the run folder which step it has taken, and when. A process that is gone shows
as a broken connection at once; one that is silent, as a sign that grows old: a thread watches for
that, since a process that waits for another cannot.
"""

import json
import os
import socket
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import torch.distributed as dist

EVERY = 1.0
"""Seconds between two signs, at least."""
LOST = ("connection closed", "connection reset", "connection was", "timed out", "timeout",
        "broken pipe", "remote process", "nccl")  # fmt: skip
"""What gloo's and NCCL's errors say when another process is gone."""


class Heartbeat:
    """The signs of the processes of a run, in `run/heartbeats/rank_N.json`."""

    def __init__(self, run: Path, patience: timedelta) -> None:
        """Begin to give signs, and to watch those of others.

        Args:
            run: the run folder.
            patience: how long a process may be silent; then it is given up, and this one ends.
        """
        self._folder = run / "heartbeats"
        self._patience = patience.total_seconds()
        together = dist.is_initialized()
        self._rank, self._size = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
        self._last = 0.0
        self._folder.mkdir(parents=True, exist_ok=True)
        self._path(self._rank).unlink(missing_ok=True)  # of an earlier start
        self.beat(-1)
        if together:
            dist.barrier()
            sys.excepthook = self._explain
            threading.Thread(target=self._watch, daemon=True).start()

    def beat(self, step: int) -> None:
        """Give a sign: `step` is under way."""
        if (now := time.time()) - self._last < EVERY:
            return
        self._last = now
        sign = {"step": step, "time": now, "host": socket.gethostname(), "pid": os.getpid()}
        partial = self._path(self._rank).with_suffix(".partial")
        partial.write_text(json.dumps(sign))
        partial.replace(self._path(self._rank))

    def lost(self) -> str:
        """Say which process is lost: one that has ended, else the one silent for longest."""
        signs = self._signs()
        gone = [sign for sign in signs if _ended(sign)] or sorted(signs, key=lambda s: s["time"])
        if not gone:
            return "a process is lost"
        sign = gone[0]
        return (
            f"rank {sign['rank']} (process {sign['pid']} on {sign['host']}) is lost; its last sign "
            f"of life was in step {sign['step'] + 1}, {time.time() - sign['time']:.0f} s ago"
        )

    def _explain(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Take the place of a traceback where another process is gone."""
        if says_lost(error):
            self._end(f"\nWhat this process saw of it: {kind.__name__}: {error}")
        sys.__excepthook__(kind, error, trace)

    def _path(self, rank: int) -> Path:
        return self._folder / f"rank_{rank}.json"

    def _signs(self) -> list[dict[str, Any]]:
        """The latest sign of every other process."""
        others = (rank for rank in range(self._size) if rank != self._rank)
        return [
            {"rank": rank, **json.loads(self._path(rank).read_text())}
            for rank in others
            if self._path(rank).exists()
        ]

    def _watch(self) -> None:
        while True:
            time.sleep(min(self._patience / 10, 10.0))
            oldest = min((sign["time"] for sign in self._signs()), default=time.time())
            if time.time() - oldest > self._patience:
                self._end()

    def _end(self, cause: str = "") -> None:
        # At once: an orderly end would wait for the lost one.
        print(
            f"train.py: {self.lost()}; start again on as many processes as there are: the run goes "
            f"on from its last state{cause}",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


def says_lost(error: BaseException) -> bool:
    """Whether an error comes of another process's being gone."""
    return any(sign in str(error).lower() for sign in LOST)


def _ended(sign: dict[str, Any]) -> bool:
    """Whether the process of a sign, if it is on this machine, has come to its end."""
    if sign["host"] != socket.gethostname():
        return False
    try:
        status: str = psutil.Process(sign["pid"]).status()
    except psutil.NoSuchProcess:
        return True
    return status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
