"""Any clip brought to one size and rate, in CIE Lab."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[Any]
SIDE = 64
"""Pixels of the shorter side at which clips are read."""
RATE = 8.0
"""Frames a second at which clips are read; times are counted in these frames."""

GRAINY = 4.0
"""Standard deviation of noise, of 255, above which a clip is smoothed before it is read."""

_CODES = np.arange(256) / 255.0
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)
# IEC 61966-2-1 primaries to XYZ, divided by the D65 white point.
_TO_XYZ = np.array([[0.4339, 0.3762, 0.1899], [0.2127, 0.7152, 0.0721], [0.0178, 0.1095, 0.8727]])


@dataclass(frozen=True)
class Clip:
    """`lab (T, H, W, 3)`, `time (T,)` in frames of `RATE`, `index (T,)` of the frames given."""

    lab: Floats
    time: Floats
    index: NDArray[np.int64]


def to_lab(frames: NDArray[np.uint8]) -> Floats:
    """CIE Lab `(..., 3)` of sRGB `(..., 3)`."""
    xyz = _LINEAR.astype(np.float32)[frames] @ _TO_XYZ.T.astype(np.float32)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)], -1)


def distance(lab: Floats, other: Floats) -> Floats:
    """Lab distance `(...)` of values `(..., 3)`; several times as fast as a norm over an axis."""
    light, a, b = (lab[..., k] - other[..., k] for k in range(3))
    out: Floats = np.sqrt(light * light + a * a + b * b)
    return out


def bring(frames: NDArray[np.uint8], fps: float) -> Clip:
    """A clip of any size and rate at `SIDE` and `RATE`.

    A clip that repeats frames, as converters of the rate do, is first rid of the repeats.

    Args:
        frames: `(T, H, W, 3)` RGB.
        fps: frames a second.

    Raises:
        ValueError: if the frames are not RGB, fewer than 5, smaller than 32 pixels, or fps is not
            between 1 and 120.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; wanted uint8 (T, H, W, 3)")
    if len(frames) < 5 or min(frames.shape[1:3]) < 32:
        raise ValueError(f"frames are {frames.shape}; at least 5 of 32 by 32 pixels are needed")
    if not 1 <= fps <= 120:
        raise ValueError(f"fps is {fps}; it must be from 1 to 120")
    index, time = _on_grid(frames, fps)
    frames = frames[index]
    if min(frames.shape[1:3]) != SIDE:
        frames = _resized(frames)
    noise = grain(frames)
    return Clip(to_lab(smooth(frames, noise) if noise > GRAINY else frames), time, index)


def grain(frames: NDArray[np.uint8]) -> float:
    """The standard deviation of the noise of frames, from what most pixels change by."""
    step = np.abs(np.diff(frames[:, ::2, ::2].astype(np.int16), axis=0))
    return float(1.4826 * np.median(step) / np.sqrt(2.0))


def smooth(frames: NDArray[np.uint8], noise: float) -> NDArray[np.uint8]:
    """Each pixel as the mean of its neighbours in space and time that differ by noise alone: a
    sigma filter (J.-S. Lee, 1983)."""
    value = frames.astype(np.float32)
    padded = np.pad(value, ((2, 2), (1, 1), (1, 1), (0, 0)), mode="edge")
    total, count = np.zeros_like(value), np.zeros(value.shape[:3], np.float32)
    frames_, height, width = value.shape[:3]
    for t, y, x in np.ndindex(5, 3, 3):
        other = padded[t : t + frames_, y : y + height, x : x + width]
        alike = distance(other, value) < 3.5 * noise
        total += other * alike[..., None]
        count += alike
    out: NDArray[np.uint8] = np.rint(total / count[..., None]).astype(np.uint8)
    return out


def _on_grid(frames: NDArray[np.uint8], fps: float) -> tuple[NDArray[np.int64], Floats]:
    """The frames nearest to the beats of `RATE`, and their times; of repeated frames, the first,
    which is that of the beat."""
    if fps <= RATE:
        return np.arange(len(frames)), np.arange(len(frames)) * (RATE / fps)
    count = int(np.floor((len(frames) - 1) * RATE / fps + 1e-6)) + 1
    beats = np.arange(count) * fps / RATE
    small = frames[:, ::2, ::2].astype(np.int16)
    changed = np.abs(np.diff(small, axis=0)).max(axis=(1, 2, 3)) > 12
    if changed.any() and changed[changed.argmax() :].mean() < 0.5 * (1.0 + RATE / fps):
        return np.ceil(beats - 1e-6).astype(np.int64), np.arange(count, dtype=np.float64)
    index: NDArray[np.int64] = np.rint(beats).astype(np.int64)
    return index, index * (RATE / fps)


def _resized(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frames.shape[1:3]
    scale = SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, way)) for frame in frames])
