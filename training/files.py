"""Folders that are there whole or not at all, and that one process has to itself."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder beside `folder` to fill; it takes the name only if all went well.

    A folder of that name is moved aside first and removed last: at every moment, the old one or the
    new one is whole on the disk, under its own name or with `.old` behind it.
    """
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class RunInUse(RuntimeError):
    """Another process writes the run folder."""


@contextmanager
def alone(run: Path) -> Iterator[None]:
    """Hold a run folder, made if absent, for this process.

    Raises:
        RunInUse: if another one holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunInUse(f"run: {run} is being written by another process") from None
        yield
