"""What is done with a stranger's file, in a process that can afford to be lost.

Only formats that we name are opened, by content and not by file name. Run by `serving.intake.jail`;
whatever is needed later is imported, and used once, before the process is locked in.
"""

import io
import json
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import av
import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageOps

from serving.intake import Unfit
from serving.intake.manifest import verify

MOST_PIXELS = 4096 * 4096
"""Of an image, or of a frame."""
MOST_FRAMES = 2000
MOST_SECONDS = 600
MOST_VIDEO_PIXELS = 1 << 30
"""In all frames together, which a worker holds in memory: 3 GiB of RGB."""

_CONTAINERS = {b"ftyp": "mp4", b"\x1a\x45\xdf\xa3": "webm"}
"""Bytes that a file has at 4 (MP4) or at 0 (WebM)."""


def picture(source: BinaryIO, target: BinaryIO) -> dict[str, Any]:
    """Write an image as an upright RGB PNG; gives its width and height."""
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(source, formats=("PNG", "JPEG", "WEBP")) as image,
        ):
            if image.width * image.height > MOST_PIXELS:
                size = f"{image.width}x{image.height}"
                raise _too_large(f"of at most {MOST_PIXELS} pixels", size)
            upright = ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        detail = "" if isinstance(error, OSError) else f" ({error})"
        message = f"a PNG, JPEG or WebP image; this one cannot be read{detail}"
        raise Unfit("invalid_image", message) from None
    upright.save(target, format="PNG", compress_level=1)
    return {"width": upright.width, "height": upright.height}


def measure(source: BinaryIO) -> dict[str, Any]:
    """What a video tells of itself; its first frame is decoded, so that it has one."""
    with _opened(source) as (video, container):
        told: dict[str, Any] = video.metadata()
        frames, height, width, _ = video.properties(index=..., format="rgb24").shape
        fps = float(told["fps"])
        if width * height > MOST_PIXELS:
            raise _too_large(f"of at most {MOST_PIXELS} pixels a frame", f"{width}x{height}")
        next(iter(video.iter(format="rgb24")))
        # Fragmented files and WebM do not tell; the length in seconds then does.
        frames = frames or math.ceil(_seconds(told) * fps)
        if not math.isfinite(fps) or fps <= 0:
            raise ValueError("no frame rate")
    _check_length(frames, width, height)
    if frames / fps > MOST_SECONDS:
        raise _too_large(f"of at most {MOST_SECONDS} s", f"{frames / fps:.0f} s")
    facts = {"width": width, "height": height, "num_frames": frames, "fps": fps}
    return facts | {"container": container}


def frames(source: BinaryIO, target: BinaryIO) -> dict[str, Any]:
    """Write the frames of a video as RGB bytes; gives their shape and rate.

    They are counted as they come: what the file tells of their number may be a lie.
    """
    count, shape = 0, (0, 0, 3)
    with _opened(source) as (video, _):
        fps = float(video.metadata()["fps"])
        for count, frame in enumerate(video.iter(format="rgb24"), 1):
            shape = frame.shape
            _check_length(count, shape[1], shape[0])
            target.write(np.ascontiguousarray(frame).data)
    return {"shape": (count, *shape), "fps": fps}


TASKS = {"picture": picture, "measure": lambda source, _: measure(source), "frames": frames}


@contextmanager
def _opened(source: BinaryIO) -> Iterator[tuple[Any, str]]:
    head = source.read(8)
    source.seek(0)
    container = _CONTAINERS.get(head[:4]) or _CONTAINERS.get(head[4:])
    if container is None:
        raise Unfit("invalid_video", "an MP4 or WebM file")
    try:
        # The container is ours to say: some that FFmpeg knows are lists of other files to open.
        how: Any = {"plugin": "pyav", "format": container}
        with iio.imopen(source, "r", **how) as video:
            yield video, container
    # What FFmpeg cannot decode it says in many ways; a truncated file just has no first frame.
    except (OSError, ValueError, LookupError, StopIteration, TypeError, ArithmeticError) as error:
        message = f"a video that can be decoded ({type(error).__name__})"
        raise Unfit("invalid_video", message) from None


def _check_length(frames: int, width: int, height: int) -> None:
    most = min(MOST_FRAMES, MOST_VIDEO_PIXELS // (width * height))
    if not 0 < frames <= most:
        allowed = f"of at most {most} frames at {width}x{height}"
        raise _too_large(allowed, f"{frames}" if frames else "of unknown length")


def _seconds(told: dict[str, Any]) -> float:
    if "duration" in told:
        return float(told["duration"])
    hours, minutes, seconds = str(told.get("DURATION", "0:0:0")).split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _too_large(allowed: str, given: str) -> Unfit:
    return Unfit("file_too_large", f"{allowed}, not {given}")


def answer(asked: dict[str, str], source: BinaryIO, target: BinaryIO) -> bytes:
    """Do a task and put how it went into JSON."""
    try:
        if asked["task"] == "verify":
            told = verify(source, asked["anchors"])
        else:
            told = TASKS[asked["task"]](source, target)
        target.flush()
    except Unfit as error:
        told = {"unfit": [error.code, str(error)]}
    except MemoryError:
        told = {"unfit": ["file_too_large", "a file that can be decoded in the memory there is"]}
    return json.dumps(told).encode()


def warm_up() -> None:
    """Do every task once, so that nothing is left to be imported or opened."""
    grey = np.zeros((16, 16, 3), np.uint8)
    for kind in ("PNG", "JPEG", "WEBP"):
        file = io.BytesIO()
        Image.fromarray(grey).save(file, kind)
        answer({"task": "picture"}, io.BytesIO(file.getvalue()), io.BytesIO())
        answer({"task": "picture"}, io.BytesIO(file.getvalue()[:60]), io.BytesIO())
    for container, codec in (("mp4", "libx264"), ("webm", "libvpx-vp9")):
        file = io.BytesIO()
        with av.open(file, "w", format=container) as output:
            stream: Any = output.add_stream(codec, rate=8)
            stream.width = stream.height = 16
            output.mux(stream.encode(av.VideoFrame.from_ndarray(grey)))
            output.mux(stream.encode())
        for task in ("measure", "frames"):
            answer({"task": task}, io.BytesIO(file.getvalue()), io.BytesIO())
            answer({"task": task}, io.BytesIO(file.getvalue()[:300]), io.BytesIO())
        answer({"task": "verify", "anchors": ""}, io.BytesIO(file.getvalue()), io.BytesIO())
