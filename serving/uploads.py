"""Files that come with a request: looked into before the job is queued, then kept with the video.

They come in the request, in a data URL, or from the web; whoever wrote them is a stranger, so they
are decoded by `serving.intake.jail` and fetched by `serving.egress`.
"""

import base64
import binascii
import hashlib
import os
import tempfile
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from starlette.datastructures import UploadFile

from serving.egress import Egress, Failed, Forbidden
from serving.errors import ApiError
from serving.intake import Unfit
from serving.intake.jail import JAIL
from serving.values import ImageReference, VideoAddress

LARGEST_IMAGE, LARGEST_VIDEO = 20 << 20, 256 << 20
"""Bytes of a file."""
FETCH_SECONDS = 10.0, 60.0
"""That an image and a video on the web may take."""
MOST_FETCHES = 4
"""At once: whoever is slow to send keeps few threads waiting."""
CHUNK = 1 << 20

_fetching = threading.BoundedSemaphore(MOST_FETCHES)


@dataclass(frozen=True)
class Input:
    """A file that a job starts from.

    name: of the file. digest: of what was sent, to know the same request again. path: where the
    file is, if it is there to stay.
    """

    name: str
    digest: str
    file: IO[bytes]
    path: Path | None = None

    def keep(self, folder: Path) -> None:
        """Put the file into `folder`, made if absent, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{uuid4().hex}"
        try:
            self._write(part)
            os.replace(part, folder / self.name)
        finally:
            part.unlink(missing_ok=True)

    def _write(self, target: Path) -> None:
        if self.path is not None:
            with suppress(OSError):  # another file system: copied, then
                return os.link(self.path, target)
        with target.open("xb") as copy:
            place = 0  # told at every read, as a decoder may have moved on in the same file
            while chunk := os.pread(self.file.fileno(), CHUNK, place):
                place += copy.write(chunk)

    def read(self) -> bytes:
        """All that is in the file."""
        return os.pread(self.file.fileno(), os.fstat(self.file.fileno()).st_size, 0)

    def close(self) -> None:
        """Let go of it, and so of what is nowhere else."""
        self.file.close()


@dataclass(frozen=True)
class SourceVideo:
    """A video to start from: width and height in pixels, frames a second, and the file."""

    width: int
    height: int
    num_frames: int
    fps: float
    file: Input


def read_image(given: UploadFile | ImageReference | str, field: str, egress: Egress) -> Input:
    """A picture that was sent, or is named by a URL, as an upright RGB PNG.

    Raises:
        ApiError: naming `field`, if it cannot be had, is too large or no picture.
    """
    url = given.image_url if isinstance(given, ImageReference) else None
    url = given if isinstance(given, str) else url
    file, digest = _source(given, url, field, LARGEST_IMAGE, FETCH_SECONDS[0], egress)
    with closing(file):
        try:
            picture = JAIL.picture(file)
        except Unfit as error:
            raise _refusal(error, field) from None
    name = "last_frame.png" if field == "last_frame" else "first_frame.png"
    return Input(name, digest, picture)


def read_upload(given: UploadFile | VideoAddress, field: str, egress: Egress) -> SourceVideo:
    """An MP4 or WebM that was sent, or is named by a URL.

    Raises:
        ApiError: naming `field`, if it cannot be had, is too large or no video.
    """
    url = given.video_url if isinstance(given, VideoAddress) else None
    file, digest = _source(given, url, field, LARGEST_VIDEO, FETCH_SECONDS[1], egress)
    return _measured(file, digest, field)


def fetched(given: UploadFile | VideoAddress, field: str, egress: Egress) -> IO[bytes]:
    """The file of a video that was sent, or is named by a URL. Raises ApiError as `read_upload`."""
    url = given.video_url if isinstance(given, VideoAddress) else None
    return _source(given, url, field, LARGEST_VIDEO, FETCH_SECONDS[1], egress)[0]


def read_made(file: IO[bytes], path: Path | None, video_id: str, field: str) -> SourceVideo:
    """A video that this service has made, linked from its `path` where that can be done."""
    digest = hashlib.sha256(video_id.encode()).hexdigest()  # the source may be forgotten
    return _measured(file, digest, field, path)


def _measured(file: IO[bytes], digest: str, field: str, path: Path | None = None) -> SourceVideo:
    try:
        told = JAIL.measure(file)
    except Unfit as error:
        file.close()
        raise _refusal(error, field) from None
    stem = "next" if field == "next_video" else "source"
    name = f"{stem}.{told.pop('container')}"
    return SourceVideo(**told, file=Input(name, digest, file, path))


def _source(
    given: Any, url: str | None, field: str, most: int, seconds: float, egress: Egress
) -> tuple[IO[bytes], str]:
    """The file, and the digest of what was sent: of a web address, the address itself."""
    if url is None:
        file: IO[bytes] = given.file
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        if (size := file.tell()) > most:
            raise _too_large(field, most, size)
        return file, digest
    on_web = url.lower().startswith(("https:", "http:"))
    data = _fetched(url, field, most, seconds, egress) if on_web else _decoded(url, field)
    if len(data) > most:
        raise _too_large(field, most, len(data))
    file = tempfile.TemporaryFile()  # noqa: SIM115 (the caller's)
    file.write(data)
    return file, hashlib.sha256(url.encode() if on_web else data).hexdigest()


def _fetched(url: str, field: str, most: int, seconds: float, egress: Egress) -> bytes:
    if not _fetching.acquire(timeout=1):
        message = "Too many files are being fetched; try again, or send the file itself."
        raise ApiError(message, code="busy", status=503, headers={"retry-after": "5"})
    try:
        return egress.get(url, most, seconds)
    except Forbidden as error:
        raise ApiError(f"{field}'s address must be {error}.", param=field) from None
    except Failed as error:
        message = f"{field} cannot be fetched: {error}."
        raise ApiError(message, param=field, code="input_not_fetched") from None
    finally:
        _fetching.release()


def _decoded(url: str, field: str) -> bytes:
    kind, example = ("image", "image/png")
    if field in ("video", "next_video"):
        kind, example = ("video", "video/mp4")
    head, _, data = url.partition(",")
    try:
        if head.startswith(f"data:{kind}/") and head.endswith(";base64"):
            return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):  # ValueError: for text that is not ASCII
        pass
    message = f"{field} must be a file, an https address or a data URL in base64, such as "
    raise ApiError(f"{message}data:{example};base64,..., not {url[:40]!a}.", param=field)


def _refusal(error: Unfit, field: str) -> ApiError:
    return ApiError(f"{field} must be {error}.", param=field, code=error.code)


def _too_large(field: str, most: int, given: int) -> ApiError:
    message = f"{field} must be of at most {most} bytes, not {given} bytes."
    return ApiError(message, param=field, code="file_too_large")
