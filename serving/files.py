"""Where videos are kept: one folder a video, one set of files an attempt, and what came with it.

An attempt writes under its own number and nobody looks there until the job's row says
`completed`, so publishing is one write to the database, and half a video is never served.
`serving.objects` keeps the same files in a bucket.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

VARIANTS = {
    "video": ("mp4", "video/mp4"),
    "thumbnail": ("webp", "image/webp"),
    "spritesheet": ("jpg", "image/jpeg"),
}
"""Name of each artifact, its file's ending and its media type."""
INPUTS = "inputs"
"""Folder of what came with the request, inside that of the video."""


class Files:
    """The artifacts under the folder `root`, which the processes of a service share."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, video_id: str, attempt: int, variant: str) -> Path:
        """Where an attempt's artifact is, or is to be."""
        return self._root / video_id / f"{attempt}.{VARIANTS[variant][0]}"

    def inputs(self, video_id: str) -> Path:
        """The folder of the files that came with the request; its row names them."""
        return self._root / video_id / INPUTS

    def prepare(self, video_id: str, attempt: int) -> None:
        """Make the folder that an attempt writes to, and have the inputs there.

        An empty file holds it: an attempt that ends removes a folder with nothing in it.
        """
        held = self.path(video_id, attempt, "video")
        while not held.exists():
            held.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # removed by another in between
                held.touch()

    def store_inputs(self, video_id: str) -> None:
        """Have what is in the folder of inputs where workers find it."""

    def store(self, video_id: str, attempt: int) -> None:
        """Have what an attempt has written where it stays, before its row says so."""

    def local(self, video_id: str, attempt: int, variant: str) -> Path | None:
        """An artifact, if it is a file on this machine."""
        return self.path(video_id, attempt, variant)

    def size(self, video_id: str, attempt: int, variant: str) -> int | None:
        """Bytes of an artifact; None if it is not there."""
        path = self.path(video_id, attempt, variant)
        return path.stat().st_size if path.is_file() else None

    def open(self, video_id: str, attempt: int, variant: str) -> IO[bytes]:
        """An artifact, to be read. Raises FileNotFoundError."""
        return self.path(video_id, attempt, variant).open("rb")

    def contents(self, video_id: str) -> Iterator[tuple[str, IO[bytes]]]:
        """Every file of a video, by its name in the folder, open while it is looked at."""
        folder = self._root / video_id
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                yield str(path.relative_to(folder)), file

    def keep_only(self, video_id: str, attempt: int) -> None:
        """Remove what other attempts have left behind."""
        for path in (self._root / video_id).glob("*"):
            if not path.name.startswith(f"{attempt}.") and path != self.inputs(video_id):
                path.unlink(missing_ok=True)

    def discard(self, video_id: str, attempt: int) -> None:
        """Remove what an attempt has written, and the folder if nothing else is in it."""
        for variant in VARIANTS:
            self.path(video_id, attempt, variant).unlink(missing_ok=True)
        with suppress(OSError):
            (self._root / video_id).rmdir()

    def only_inputs(self, seconds: float) -> list[str]:
        """The videos of which there is nothing but inputs, unchanged for so many seconds."""
        before = time.time() - seconds
        found = []
        for folder in self._root.glob("video_*"):
            with suppress(FileNotFoundError):  # another may be removing it
                only = {path.name for path in folder.iterdir()} <= {INPUTS}
                parts = (folder, *folder.glob(INPUTS))
                if only and max(path.stat().st_mtime for path in parts) < before:
                    found.append(folder.name)
        return found

    def remove(self, video_id: str) -> None:
        """Remove everything of a video."""
        shutil.rmtree(self._root / video_id, ignore_errors=True)
