"""Frames to MP4, thumbnail and sprite sheet, and files back to frames.

Everything is written to a hidden file beside its target and moved into place when it is whole, so
no reader ever meets half a file.
"""

import os
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from uuid import uuid4

import av
import imageio.v3 as iio
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
"""RGB: one frame `(H, W, 3)` or several `(T, H, W, 3)`."""

SHEET_COLUMNS, SHEET_FRAMES, SHEET_CELL = 5, 25, 256
"""A sprite sheet has at most 25 frames in 5 columns, the long side of each at most 256 pixels."""
THUMBNAIL_SIDE = 512
"""Long side of a thumbnail, at most, in pixels."""


def write_mp4(
    path: str | Path, frames: Iterable[Pixels], fps: int | float | Fraction, scale: int = 1
) -> None:
    """Write a silent H.264 MP4 that every browser plays, from its first bytes on.

    4:2:0, constant frame rate, index in front of the data. RGB is converted by the BT.709 matrix to
    limited range (ITU-R BT.709-6, §3) and tagged so: matrix, primaries, transfer and range.

    Args:
        path: the file to write or replace; its folder must exist.
        frames: `(T, H, W, 3)` uint8, or pictures one by one, so that frames may be encoded as they
            are decoded; all of one size.
        fps: frames a second, from 1 to 240.
        scale: enlarge each side so many times, by Lanczos. The sides written must be even: 4:2:0
            has no odd ones, and padding would show pixels that no model drew.

    Raises:
        ValueError: for no frames, frames of another shape or dtype, odd sides, a rate out of
            range, or a scale that is not positive.
    """
    if not 1 <= fps <= 240:
        raise ValueError(f"fps is {fps}; allowed is 1 to 240")
    rate = Fraction(fps).limit_denominator(1001)  # 23.976 and its kin are over 1001
    with (
        _whole_file(path) as part,
        av.open(str(part), "w", format="mp4", options=_MP4) as container,
    ):
        stream = None
        for index, frame in enumerate(_enlarged(frames, scale)):
            height, width = frame.shape[:2]
            if stream is None:
                stream = _add_stream(container, rate, height, width)
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        if stream is None:
            raise ValueError("frames is empty; a video has at least one frame")
        container.mux(stream.encode())


@contextmanager
def recording(
    path: str | Path, fps: int | float | Fraction, scale: int = 1
) -> Iterator[Callable[[Pixels], None]]:
    """Write an MP4 as `write_mp4` does while its frames are still being made, in a thread beside.

    Gives a function that takes the next frames, `(T, H, W, 3)` uint8. When the block ends, the file
    is there, whole; when it ends in an error, or frames cannot be written, there is none.

    Raises:
        ValueError: at the end of the block, as `write_mp4`.
    """
    coming: queue.SimpleQueue[Pixels | BaseException | None] = queue.SimpleQueue()
    with ThreadPoolExecutor(1) as thread:
        written = thread.submit(write_mp4, path, _taken(coming), fps, scale)
        try:
            yield coming.put
        except BaseException as error:
            coming.put(error)
            raise
        coming.put(None)
    written.result()


def _taken(
    coming: "queue.SimpleQueue[Pixels | BaseException | None]",
) -> Iterator[Pixels]:
    while (part := coming.get()) is not None:
        if isinstance(part, BaseException):
            raise part
        yield from part


_MP4 = {"movflags": "+faststart"}
_X264 = {"preset": "medium", "crf": "16"}
_X264_WITHOUT_TREE = {"preset": "medium", "crf": "18", "x264-params": "mbtree=0"}
"""Of the same quality in files a third larger. x264's macroblock tree takes eight macroblocks at
once and reads memory that nobody has written where the last eight are not all there: one video
would have other bytes each time."""


def _add_stream(
    container: av.container.OutputContainer, rate: Fraction, height: int, width: int
) -> av.VideoStream:
    if height % 2 or width % 2:
        raise ValueError(f"frames are {width}x{height} pixels; allowed are even sides")
    options = _X264_WITHOUT_TREE if width % 128 else _X264
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    codec = stream.codec_context
    codec.time_base = 1 / rate
    codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
    codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
    return stream


def read_video(path: str | Path) -> tuple[Pixels, float]:
    """Read a video file: frames `(T, H, W, 3)` uint8 RGB, and frames a second.

    Raises:
        ValueError: if the file holds no video that can be decoded.
    """
    try:
        with iio.imopen(path, "r", plugin="pyav") as file:
            frames = np.stack(list(file.iter(format="rgb24")))
            return frames, float(file.metadata()["fps"])
    except (av.FFmpegError, IndexError, OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a video: {error}") from error


def retime(frames: Pixels, fps: float, target_fps: float) -> Pixels:
    """Sample frames `(T, H, W, 3)` at another rate: at every moment, the one that is shown then."""
    count = max(1, round(len(frames) * target_fps / fps))
    moments = (np.arange(count) + 0.5) * fps / target_fps
    shown: Pixels = frames[np.minimum(moments.astype(int), len(frames) - 1)]
    return shown


def thumbnail(frames: Pixels, path: str | Path, scale: int = 1) -> None:
    """Write the middle one of frames `(T, H, W, 3)` as WebP, at most 512 pixels on its long side.

    `scale` enlarges as in `write_mp4`, before the limit is applied.
    """
    _check(frames)
    middle = _resized(frames[len(frames) // 2], scale, THUMBNAIL_SIDE)
    with _whole_file(path) as part:
        iio.imwrite(part, middle, plugin="pillow", extension=".webp", quality=90)


def spritesheet(frames: Pixels, path: str | Path, scale: int = 1) -> None:
    """Write a JPEG of up to 25 evenly spaced frames of `(T, H, W, 3)`, in rows of five.

    The first frame and the last are always among them; cells past the last are black. `scale`
    enlarges as in `write_mp4`, before cells are limited to 256 pixels on their long side.
    """
    _check(frames)
    count = min(len(frames), SHEET_FRAMES)
    picked = np.linspace(0, len(frames) - 1, count).round().astype(int)
    cells = [_resized(frames[i], scale, SHEET_CELL) for i in picked]
    height, width = cells[0].shape[:2]
    rows = -(-count // SHEET_COLUMNS)
    sheet = np.zeros((rows, SHEET_COLUMNS, height, width, 3), np.uint8)
    for i, cell in enumerate(cells):
        sheet[divmod(i, SHEET_COLUMNS)] = cell
    page = sheet.swapaxes(1, 2).reshape(rows * height, SHEET_COLUMNS * width, 3)
    with _whole_file(path) as part:
        iio.imwrite(part, page, plugin="pillow", extension=".jpg", quality=90)


@contextmanager
def _whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; move it into place, or drop it on any error."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _enlarged(frames: Iterable[Pixels], scale: int) -> Iterator[Pixels]:
    first = None
    for frame in frames:
        _check(frame[None])
        if first is not None and frame.shape != first:
            raise ValueError(f"frames have shapes {first} and {frame.shape}; allowed is one shape")
        first = frame.shape
        yield _resized(frame, scale)


def _resized(frame: Pixels, scale: int, longest: int | None = None) -> Pixels:
    """Enlarge `scale` times by Lanczos, or as far as the long side stays within `longest`."""
    if scale < 1:
        raise ValueError(f"scale is {scale}; allowed are 1, 2, 3, ...")
    height, width = frame.shape[:2]
    factor = min(scale, longest / max(height, width)) if longest else scale
    if factor == 1:
        return np.ascontiguousarray(frame)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))


def _check(frames: Pixels) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(
            f"frames are {frames.dtype} of shape {frames.shape}; "
            f"allowed are uint8 of shape (T, H, W, 3), T at least 1"
        )
