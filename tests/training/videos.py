"""Real video files of every kind, made here with the codecs that PyAV brings.

Every frame shows its number as a row of black and white blocks along its top, over a moving
texture that is the file's own, so that a decoded frame says which one it is.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

BITS = 8
"""Blocks of the number along the top of a frame, an eighth of its height."""


def picture(number: int, width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Frame `number` of a video, `(H, W, 3)`: its number over a texture that drifts."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 216, (6, 8, 3)).astype(np.float32)
    y, x = np.mgrid[0:height, 0:width]
    rows = (y / height * 6 + 0.03 * number) % 6
    columns = (x / width * 8 + 0.07 * number) % 8
    frame = coarse[rows.astype(int), columns.astype(int)].astype(np.uint8)
    top = max(1, height // 8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        frame[:top, left:right] = 255 if number >> bit & 1 else 0
    return frame


def number(frame: NDArray[np.uint8]) -> int:
    """The number that a frame shows."""
    height, width = frame.shape[:2]
    row = frame[height // 16].mean(axis=-1)
    centres = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(int(row[centre] > 127) << bit for bit, centre in enumerate(centres))


def write_video(
    path: Path,
    times: Sequence[Fraction],
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    seed: int = 0,
    rotation: int = 0,
    hdr: int = 0,
    sound: bool = False,
    draw: Callable[[int, int, int, int], NDArray[np.uint8]] = picture,
    **options: Any,
) -> Path:
    """Write frames that are seen at the given seconds; the format is that of the suffix."""
    width, height = size
    base = Fraction(1, {"gif": 100, "mpeg4": 48000}.get(codec, 90000))  # each has its limits
    rate = Fraction(len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else Fraction(25)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate.limit_denominator(1001), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(rotation)
        if hdr:
            context = stream.codec_context
            context.color_trc, context.color_primaries, context.colorspace = hdr, 9, 9
        beep = container.add_stream("aac", rate=16000) if sound else None
        for k, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw(k, width, height, seed), "rgb24")
            frame.pts, frame.time_base = round(time / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if beep is not None:
            silence = np.zeros((1, int(16000 * (times[-1] - times[0]))), np.float32)
            heard = av.AudioFrame.from_ndarray(silence, "fltp", "mono")
            heard.sample_rate = 16000
            container.mux(beep.encode(heard))
            container.mux(beep.encode())
    return path


def even(count: int, fps: Fraction | int, start: Fraction | int = 0) -> list[Fraction]:
    """Times at a constant rate."""
    return [start + k / Fraction(fps) for k in range(count)]
