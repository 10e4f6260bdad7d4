"""Folders that are there whole or not at all, and that one process has to itself."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import threading
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


def write_whole(file: Path, content: bytes) -> None:
    """Write a file that takes its name, and replaces another of it, only when it is whole."""
    partial = file.with_name(f".{file.name}.partial-{os.getpid()}-{threading.get_ident()}")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left unfinished; for who has the folder to itself."""
    for path in list(folder.rglob("*")):
        if re.search(r"\.(partial[\d-]*|old)$", path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def fingerprint(folder: Path) -> str:
    """Of all files of a folder, their names and contents."""
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(str(file.relative_to(folder)).encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "blake2b").digest())
    return digest.hexdigest()


@contextmanager
def in_turn(file: Path) -> Iterator[None]:
    """Hold a lock file, made if absent; others wait for it as long as it takes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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


def no_room(error: BaseException) -> bool:
    """Whether an error comes of a full disk, a quota, or a limit on the size of files.

    safetensors tells the number in words.
    """
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    number = error.errno if isinstance(error, OSError) else None
    return number in full or any(f"os error {n})" in str(error) for n in full)
