"""Video files to frames: exact in time, upright, in sRGB, a frame at a time.

What a file says of itself is not believed: it has the frames that can be decoded, and they are seen
when their timestamps say.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, TypeVar

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""RGB, `(H, W, 3)` or `(T, H, W, 3)`."""
T = TypeVar("T")
Fit = Callable[[int, int], tuple[int, int]]
"""Width and height of an upright frame to those that it is to be scaled to."""

MOST_PIXELS = 8192 * 8192
"""Larger frames are refused: a few bytes can claim any size."""
TRANSFERS = {16: "pq", 18: "hlg"}
"""The transfer functions of HDR by their numbers in ITU-T H.273."""
REFERENCE_WHITE = 203.0
"""cd/m² of diffuse white (ITU-R BT.2408, §2.1), which becomes white."""
TO_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083],
                   [-0.0182, -0.1006, 1.1187]], np.float32)  # fmt: skip
"""Linear BT.2020 to linear BT.709 (ITU-R BT.2087, §4)."""


class Unreadable(ValueError):
    """A file without a frame that can be decoded; the message is the reason."""


@dataclass(frozen=True)
class Probe:
    """What a file says of its video.

    Attributes:
        width, height: upright, with square pixels.
        fps: on average; None if it does not say.
        seconds: how long it claims to be; None if it does not say.
        transfer: "sdr", "pq" or "hlg".
        audio: whether there is sound.
    """

    width: int
    height: int
    fps: float | None
    seconds: float | None
    codec: str
    transfer: str
    audio: bool


class Video:
    """An open file; a context manager.

    Raises:
        Unreadable: if it holds no video.
    """

    def __init__(self, file: BinaryIO) -> None:
        if not file.read(1):
            raise Unreadable("no video: the file is empty")
        self._file = file
        self._open()
        self._scaler = VideoReformatter()  # one for all frames: each has tables to work out
        self.damage: str | None = None
        """Why decoding ended before the file did."""

    def _open(self) -> None:
        self._file.seek(0)
        try:
            self._container: InputContainer = av.open(self._file, "r", metadata_errors="replace")
        except (av.error.FFmpegError, ValueError) as error:
            raise Unreadable(f"no video: {_reason(error)}") from error
        if not self._container.streams.video:
            self._container.close()
            raise Unreadable("no video: no such stream")
        self._stream = self._container.streams.video[0]
        self._at_start = True

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def probe(self) -> Probe:
        """What the file says; the first frame is decoded for its rotation and shape.

        Raises:
            Unreadable: if there is no frame.
        """
        stream, claimed = self._stream, self._container.duration
        _, first = next(self._decode(), (None, None))
        if first is None:
            raise Unreadable(f"no frame can be decoded: {self.damage or 'the stream is empty'}")
        width, height = self._upright(first)
        return Probe(
            width,
            height,
            float(stream.average_rate) if stream.average_rate else None,
            claimed / av.time_base if claimed and claimed > 0 else None,
            stream.codec_context.name,
            TRANSFERS.get(int(first.color_trc), "sdr"),
            bool(self._container.streams.audio),
        )

    def seen(
        self, fps: Fraction, fit: Fit, start: Fraction | None = None
    ) -> Iterator[tuple[Fraction, Pixels]]:
        """At every 1/fps of a second from `start`, or from the first frame on: the time, the frame.

        Only frames that are seen are scaled and converted, each once. Decoding that fails ends
        them, and `damage` says why.
        """
        last: tuple[VideoFrame, Pixels] | None = None
        for time, frame in steady(self._decode(start), fps, start):
            if last is None or last[0] is not frame:
                last = frame, self._pixels(frame, fit)
            yield time, last[1]

    def _decode(self, start: Fraction | None = None) -> Iterator[tuple[Fraction, VideoFrame]]:
        before: list[tuple[Fraction, VideoFrame]] = []  # the last two that are not after `start`
        for time, frame in self._timed(start):
            if start is not None and time <= start:
                before = [*before[-1:], (time, frame)]
                continue
            yield from before
            before = []
            yield time, frame
        yield from before

    def _timed(self, start: Fraction | None) -> Iterator[tuple[Fraction, VideoFrame]]:
        """Frames in the order of time, from one that is not after `start` where there is one."""
        if start is not None and self._seek(start):
            coming = self._in_order()
            first = next(coming, None)
            if first is not None and first[0] <= start:
                yield first
                yield from coming
                return
        if not self._at_start:  # a seek to the first frame may end behind it, as in MPEG-TS
            self._container.close()
            self._open()
        yield from self._in_order()

    def _seek(self, start: Fraction) -> bool:
        base = self._stream.time_base or Fraction(1, av.time_base)
        self._at_start = False
        try:
            self._container.seek(int(start / base), stream=self._stream)
        except av.error.FFmpegError:
            return False
        return True

    def _in_order(self) -> Iterator[tuple[Fraction, VideoFrame]]:
        stream, last = self._stream, None
        step = 1 / (stream.average_rate or Fraction(25))
        self.damage, self._at_start = None, False
        try:
            for frame in self._container.decode(stream):
                if frame.is_corrupt:
                    self.damage = "a frame is corrupt"
                    return
                if frame.width * frame.height > MOST_PIXELS:
                    self.damage = f"frames of {frame.width}x{frame.height}"
                    return
                if frame.pts is not None and frame.time_base is not None:
                    time = frame.pts * frame.time_base
                else:
                    time = Fraction(0) if last is None else last + step
                if last is not None and time <= last:
                    continue  # a second frame at a time that is past
                last = time
                yield time, frame
        except (av.error.FFmpegError, ValueError) as error:
            self.damage = _reason(error)

    def _upright(self, frame: VideoFrame) -> tuple[int, int]:
        aspect = self._stream.sample_aspect_ratio
        width = round(frame.width * aspect) if aspect else frame.width
        return (frame.height, width) if frame.rotation % 180 else (width, frame.height)

    def _pixels(self, frame: VideoFrame, fit: Fit) -> Pixels:
        width, height = fit(*self._upright(frame))
        turns = round(frame.rotation / 90) % 4
        sides = (height, width) if turns % 2 else (width, height)
        transfer = TRANSFERS.get(int(frame.color_trc))
        scaled = self._scaler.reformat(frame, *sides, "rgb48le" if transfer else "rgb24", threads=1)
        pixels: Any = scaled.to_ndarray()
        if transfer:
            pixels = to_sdr(pixels, transfer)
        return np.ascontiguousarray(np.rot90(pixels, turns))


def steady(
    frames: Iterable[tuple[Fraction, T]], fps: Fraction, start: Fraction | None = None
) -> Iterator[tuple[Fraction, T]]:
    """At every 1/fps of a second from `start`, or from the first frame on, the frame that is seen.

    The last frame is seen as long as the one before it.
    """
    shown: list[T] = []
    due, every, step, last = start, 1 / fps, 1 / fps, None
    for time, frame in frames:
        due = time if due is None else due
        while shown and due < time:
            yield due, shown[0]
            due += every
        step = time - last if last is not None else step
        shown, last = [frame], time
    while shown and due is not None and last is not None and due < last + step:
        yield due, shown[0]
        due += every


def to_sdr(pixels: NDArray[np.uint16], transfer: str) -> Pixels:
    """HDR `(H, W, 3)` of BT.2020 to sRGB: its reference white is white, what is brighter is cut.

    By ITU-R BT.2100, tables 4 (PQ) and 5 (HLG, of a display of 1000 cd/m²), and IEC 61966-2-1.
    """
    signal = pixels.astype(np.float32) / 65535
    if transfer == "pq":
        m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
        power = signal ** (1 / m2)
        light = 10000 * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
        luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
        light = 1000 * scene * luminance[..., None] ** 0.2
    linear = np.clip((light / REFERENCE_WHITE) @ TO_709.T, 0, 1)
    curved = 1.055 * linear ** (1 / 2.4) - 0.055
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, curved)
    return (encoded * 255 + 0.5).astype(np.uint8)


def _reason(error: Any) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0].strip()
