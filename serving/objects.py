"""Videos kept in a bucket (S3, Google Cloud, Azure) in place of a shared folder, through obstore.

Attempts and uploads are written to a folder of this machine first, and put into the bucket whole;
each object is there or not, never half. Credentials come from the environment, as the clouds' own
tools read them.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import from_url

from serving.files import INPUTS, VARIANTS, Files
from serving.settings import Settings

CHUNK = 1 << 20
SIGNED_SECONDS = 300
"""For how long an address that was signed for a client lasts."""


class Objects(Files):
    """The artifacts in the bucket `url`, such as s3://bucket/prefix; `root` is for what is written.

    Raises:
        ValueError: for a URL, or an environment, from which no bucket can be had.
    """

    def __init__(self, url: str, root: Path, redirects: bool = False) -> None:
        super().__init__(root)
        self._redirects = redirects
        try:
            self._bucket: Any = from_url(url)
        except obstore.exceptions.BaseError as error:
            raise ValueError(f"storage cannot be used: {error}") from None

    def prepare(self, video_id: str, attempt: int) -> None:
        super().prepare(video_id, attempt)
        for key in self._keys(f"{video_id}/{INPUTS}/"):
            target = self._root / key
            target.parent.mkdir(exist_ok=True)
            with target.open("wb") as file:
                self._read(key, file)

    def store_inputs(self, video_id: str) -> None:
        for path in self.inputs(video_id).iterdir():
            obstore.put(self._bucket, f"{video_id}/{INPUTS}/{path.name}", path)
        super().remove(video_id)

    def store(self, video_id: str, attempt: int) -> None:
        for variant, (_, media_type) in VARIANTS.items():
            path = self.path(video_id, attempt, variant)
            attributes: Any = {"Content-Type": media_type}
            obstore.put(
                self._bucket, self._key(video_id, attempt, variant), path, attributes=attributes
            )

    def local(self, video_id: str, attempt: int, variant: str) -> Path | None:
        return None

    def size(self, video_id: str, attempt: int, variant: str) -> int | None:
        try:
            return int(obstore.head(self._bucket, self._key(video_id, attempt, variant))["size"])
        except (FileNotFoundError, NotFoundError):
            return None

    def open(self, video_id: str, attempt: int, variant: str) -> IO[bytes]:
        file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller's)
        try:
            self._read(self._key(video_id, attempt, variant), file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file

    def part(
        self, video_id: str, attempt: int, variant: str, start: int, end: int
    ) -> Iterator[bytes]:
        """The bytes of an artifact from `start` up to, but not including, `end`."""
        key = self._key(video_id, attempt, variant)
        for place in range(start, end, CHUNK):
            last = min(place + CHUNK, end)
            yield bytes(obstore.get_range(self._bucket, key, start=place, end=last))

    def address(self, video_id: str, attempt: int, variant: str) -> str | None:
        """Where a client may fetch an artifact itself for a while, if that is wanted."""
        if not self._redirects:
            return None
        key = self._key(video_id, attempt, variant)
        return str(obstore.sign(self._bucket, "GET", key, timedelta(seconds=SIGNED_SECONDS)))

    def contents(self, video_id: str) -> Iterator[tuple[str, IO[bytes]]]:
        for key in sorted(self._keys(f"{video_id}/")):
            with tempfile.TemporaryFile() as file:
                self._read(key, file)
                file.seek(0)
                yield key.removeprefix(f"{video_id}/"), file

    def keep_only(self, video_id: str, attempt: int) -> None:
        mine = (f"{video_id}/{attempt}.", f"{video_id}/{INPUTS}/")
        self._delete([key for key in self._keys(f"{video_id}/") if not key.startswith(mine)])
        super().remove(video_id)

    def discard(self, video_id: str, attempt: int) -> None:
        prefix = f"{video_id}/{attempt}."
        self._delete([key for key in self._keys(f"{video_id}/") if key.startswith(prefix)])
        super().remove(video_id)

    def only_inputs(self, seconds: float) -> list[str]:
        before = time.time() - seconds
        latest: dict[str, float] = {}
        others: set[str] = set()
        for batch in obstore.list(self._bucket):
            for found in batch:
                video_id, _, name = found["path"].partition("/")
                if not name.startswith(f"{INPUTS}/"):
                    others.add(video_id)
                changed = found["last_modified"].timestamp()
                latest[video_id] = max(changed, latest.get(video_id, 0.0))
        old = {video_id for video_id, changed in latest.items() if changed < before}
        return sorted(old - others)

    def remove(self, video_id: str) -> None:
        self._delete(list(self._keys(f"{video_id}/")))
        super().remove(video_id)

    @staticmethod
    def _key(video_id: str, attempt: int, variant: str) -> str:
        return f"{video_id}/{attempt}.{VARIANTS[variant][0]}"

    def _keys(self, prefix: str) -> Iterator[str]:
        for batch in obstore.list(self._bucket, prefix):
            yield from (str(found["path"]) for found in batch)

    def _read(self, key: str, file: IO[bytes]) -> None:
        for chunk in obstore.get(self._bucket, key).stream(min_chunk_size=CHUNK):
            file.write(bytes(chunk))

    def _delete(self, keys: list[str]) -> None:
        with suppress(FileNotFoundError, NotFoundError):  # another may be removing them
            if keys:
                obstore.delete(self._bucket, keys)


def open_files(settings: Settings) -> Files:
    """Where a service keeps its videos. Raises ValueError for a bucket that cannot be had."""
    if settings.storage is None:
        return Files(settings.videos)
    # One folder a process, as two may be at one video; those of the dead are swept up.
    for folder in settings.scratch.glob("*"):
        if not Path(f"/proc/{folder.name}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    root = settings.scratch / str(os.getpid())
    return Objects(settings.storage, root, settings.storage_redirects)
