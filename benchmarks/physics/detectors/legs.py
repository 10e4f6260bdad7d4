"""L1 and L2: how many legs a cat has, and how it walks on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import find_peaks

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.count import NUMBERS, longest
from benchmarks.physics.detectors.haze import CLEAR
from benchmarks.physics.detectors.motion import visible
from benchmarks.physics.detectors.parts import FLAT, Part
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst

SCAN = (1, 2, 3)
"""Rows above the lowest one at which legs are counted."""
SHARP, SMEARED = (0.32, 0.2), (0.7, 0.1)
"""How much of a pixel is a leg's where it counts as all of one, and how much less of it lies
between two legs; where smeared they run into each other."""
LEAST_STIR = 0.24
"""The share of its legs' pixels that a walker changes from frame to frame, at the least."""
BAND = 6
"""Rows from the lowest one up that hold nothing but legs."""


@dataclass(frozen=True)
class Gait:
    """A walker seen from its own body: `band (T, BAND, W)` are its legs, forward to the right.

    `counts (T,)` are the legs to be told apart, `hints (T,)` those of any row, `size` the
    root of its area in pixels, `facing` is -1 to the left and 1 to the right, `turned (T,)` where
    it faces the other way, `foot` how low its feet are in pixels, `at (T,)` the frames.
    """

    band: Floats
    counts: NDArray[np.int64]
    hints: NDArray[np.int64]
    size: float
    facing: float
    turned: NDArray[np.bool_]
    foot: float
    at: NDArray[np.int64]


def gait(thing: Part) -> Gait | None:
    """Look at the legs in all frames in which a thing is in full view; None if those are few."""
    at = visible(thing)
    if len(at) < 6:
        return None
    mask = thing.mask[at].astype(np.float64)
    lows = [int(np.flatnonzero(frame.max(1) > 0.4)[-1]) for frame in mask]
    low = int(np.median(lows))
    width = mask.shape[2]
    facing = look(mask, thing.centre[at])
    grid = np.arange(-width // 2, width // 2)
    band = np.zeros((len(at), BAND, len(grid)))
    for t, frame in enumerate(mask):
        x = thing.centre[at[t], 0] + facing * grid - 0.5
        for k in range(BAND):
            row = frame[max(low - 1 - k, 0)]
            band[t, k] = np.interp(x, np.arange(width), row, left=0.0, right=0.0)
    peaks = [legs_by_row(f, own, SHARP) for f, own in zip(mask, lows, strict=True)]
    blurred = [legs_by_row(f, own, SMEARED) for f, own in zip(mask, lows, strict=True)]
    counts, hints = np.median(peaks, axis=1).astype(np.int64), np.max(blurred, axis=1)
    ways = [look(f[None], c[None]) for f, c in zip(mask, thing.centre[at], strict=True)]
    size = float(np.sqrt(np.median(thing.area[at])))
    return Gait(band, counts, hints, size, facing, np.array(ways) != facing, low + 1.0, at)


def legs_by_row(frame: Floats, low: int, kind: tuple[float, float]) -> list[int]:
    """Peaks of one frame `(H, W)` along a few rows above the lowest, for `SHARP` or `SMEARED`."""
    covered, prominence = kind
    peaks = []
    for up in SCAN:
        # Half covered is covered: a leg may be paler than its outline, the ground between is not.
        row = np.pad(np.minimum(frame[max(low - up, 0)] / covered, 1.0), 1)
        peaks.append(len(find_peaks(row, prominence=prominence, height=0.35)[0]))
    return peaks


def look(mask: Floats, centre: Floats) -> float:
    """Which way a walker faces: its head weighs more than its tail above the middle."""
    sides = 0.0
    for frame, (x, y) in zip(mask, centre, strict=True):
        upper = frame[: max(int(y), 1)].sum(0)
        offset = np.arange(len(upper)) + 0.5 - x
        sides += float((upper * np.sign(offset) * np.minimum(np.abs(offset), 10.0)).sum())
    return 1.0 if sides > 0 else -1.0


def walking(reading: Reading, name: str = "cat", legs: str = "") -> Findings:
    """L1: legs too few or too many, stretched out or crossed; L2: legs that do not move.

    Lengths are in roots of the walker's area.
    """
    smeared = reading.haze > CLEAR
    seen = gait(reading.parts[name])
    if seen is None:
        return {"L1.missing": ABSENT}
    asked = NUMBERS[reading.expect.get("legs", legs or "four")]
    most = int(np.sort(seen.hints if smeared else seen.counts)[-2])
    four = asked == 4
    extra = seen.counts > asked
    x = np.arange(seen.band.shape[2]) - seen.band.shape[2] // 2
    feet = seen.band[:, :4].mean(1)
    # A smear is in one row or one frame; a leg is in more.
    ahead = ((feet > 0.4) if smeared else (seen.band[:, :4] > 0.4).any(1)) * x
    reach = ahead.max(1) / seen.size - (0.6 if four else 0.5)
    far = int(reach.argsort()[-2 if smeared else -1])
    stir = np.abs(np.diff(feet, axis=0)).sum(1) / np.maximum(feet[1:].sum(1), 1.0)
    waist = np.abs(x + 0.1 * seen.size) < 0.12 * seen.size
    return {
        "L1.missing": Finding(float(asked - most - 1), int(seen.at[seen.counts.argmax()])),
        "L1.extra": Finding(float(longest(extra)), int(seen.at[extra.argmax()])),
        "L1.reach": Finding(float(reach[far]), int(seen.at[far])),
        "L1.crossed": worst(seen.band[:, 2:][:, :, waist].mean((1, 2)) * four, seen.at),
        "L2.still": Finding(LEAST_STIR / max(float(np.median(stir)), 1e-3), int(seen.at[0])),
        "A1.facing": _backwards(reading, name, seen),
        "A1.turned": worst(seen.turned * 1.0, seen.at)._replace(value=float(seen.turned.mean())),
        "K4.ground": Finding(reading.stage.horizon - seen.foot, int(seen.at[0])),
        **_lasting(reading, name, seen, asked),
    }


def _lasting(reading: Reading, name: str, seen: Gait, asked: int) -> Findings:
    """For how many frames on end fewer legs are seen than asked: in a stride they part twice.

    In a smeared clip that is not known, nor where another thing is before the legs.
    """
    if reading.haze > CLEAR:
        return {}
    others = [part.mask > 0.2 for other, part in reading.parts.items() if other != name]
    legs = np.zeros(reading.stage.contrast.shape, bool)
    rows = slice(int(seen.foot) - BAND, int(seen.foot) + 1)
    legs[:, rows] = (reading.parts[name].mask > 0.5).any(1, keepdims=True)
    hidden = [(ndimage.binary_dilation(mask, FLAT) & legs).any((1, 2)) for mask in others]
    free = ~np.any([h[seen.at] for h in hidden], axis=0) if hidden else np.ones(len(seen.at), bool)
    fewer = seen.hints[free] < asked
    frame = int(seen.at[free][fewer.argmax()]) if fewer.any() else 0
    return {"L1.lost": Finding(float(longest(fewer)), frame)}


def _backwards(reading: Reading, name: str, seen: Gait) -> Finding:
    """How far in pixels it went the way its tail points."""
    x = reading.parts[name].centre[seen.at, 0]
    return Finding(-seen.facing * float(x[-1] - x[0]), int(seen.at[-1]))
