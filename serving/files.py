"""Where videos are kept: one folder a video, one set of files an attempt.

An attempt writes under its own number and nobody looks there until the job's row says
`completed`, so publishing is one write to the database, and half a video is never served.
"""

import shutil
from contextlib import suppress
from pathlib import Path

VARIANTS = {
    "video": ("mp4", "video/mp4"),
    "thumbnail": ("webp", "image/webp"),
    "spritesheet": ("jpg", "image/jpeg"),
}
"""Name of each artifact, its file's ending and its media type."""


class Files:
    """The artifacts under the folder `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, video_id: str, attempt: int, variant: str) -> Path:
        """Where an attempt's artifact is, or is to be."""
        return self._root / video_id / f"{attempt}.{VARIANTS[variant][0]}"

    def prepare(self, video_id: str) -> None:
        """Make the folder that attempts write to."""
        (self._root / video_id).mkdir(parents=True, exist_ok=True)

    def keep_only(self, video_id: str, attempt: int) -> None:
        """Remove what other attempts have left behind."""
        for path in (self._root / video_id).glob("*"):
            if not path.name.startswith(f"{attempt}."):
                path.unlink(missing_ok=True)

    def discard(self, video_id: str, attempt: int) -> None:
        """Remove what an attempt has written, and the folder if nothing else is in it."""
        for variant in VARIANTS:
            self.path(video_id, attempt, variant).unlink(missing_ok=True)
        with suppress(OSError):
            (self._root / video_id).rmdir()

    def remove(self, video_id: str) -> None:
        """Remove everything of a video."""
        shutil.rmtree(self._root / video_id, ignore_errors=True)
