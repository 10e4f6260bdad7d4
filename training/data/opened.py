"""Files of any store, opened so that one can seek in them."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, BinaryIO

import fsspec
from obstore.fsspec import register

register(("s3", "s3a", "gs", "gcs", "az", "abfs"))


def store(uri: str) -> tuple[Any, str]:
    """The store that a URI is of, and the path there; buckets are told by AWS_* and the like."""
    found: tuple[Any, str] = fsspec.url_to_fs(uri)
    return found


@contextmanager
def opened(uri: str) -> Iterator[BinaryIO]:
    """Open a file by its URI; one that cannot be sought in is copied to the disk first."""
    if uri.startswith("tar://"):
        name, _, tar = uri.removeprefix("tar://").partition("::")
        source = _tar(tar, threading.get_ident()).open(name, "rb")
    else:
        source = fsspec.open(uri, "rb")
    with source as file:
        if _can_seek(file):
            yield file
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            yield copy


@lru_cache(maxsize=16)
def _tar(uri: str, thread: int) -> Any:
    """A tar with its list of members, which takes a pass over it; each thread has its own place."""
    return fsspec.filesystem("tar", fo=uri)


def _can_seek(file: Any) -> bool:
    try:
        file.seek(0, 2)
        file.seek(0)
    except (OSError, ValueError):  # as of a web server that sends no parts of files
        return False
    return True
