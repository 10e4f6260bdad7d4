"""B1, B2 and B3: a bite is there, it stays, and the eater made it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.signal import find_peaks
from scipy.spatial import ConvexHull

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR
from benchmarks.physics.detectors.motion import visible
from benchmarks.physics.detectors.parts import solid
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst
from benchmarks.physics.detectors.smears import HALF, strength

Mask = NDArray[np.bool_]
NEAR, NEAR_SMEAR = 3, 4
"""Pixels from the eater within which it may have taken a piece; a smear has no plain edge."""
PEACE = 2
PIECE = 0.02
"""The least share of the whole food that is a bite."""
TIMES = {"once": 1, "twice": 2}
_CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class Food:
    """What became of each pixel of the whole food, in frames: masks `(T, H, W)`, `whole (H, W)`.

    `there` is food, `gone` is scenery, neither is out of sight; `near` is what the eater reaches.
    """

    whole: Mask
    there: Mask
    gone: Mask
    near: Mask

    @property
    def touch(self) -> Mask:
        """Frames `(T,)` in which the eater reaches the food."""
        return np.asarray((self.near & self.whole).any((1, 2)))


def watch(reading: Reading, eater: str, food: str) -> Food | None:
    """Follow the food pixel by pixel; None where it is never seen whole."""
    thing, body = reading.parts[food], reading.parts[eater].mask > 0.25
    near, alone = apart(reading, eater, food)
    if len(alone) == 0:
        return None
    start = alone[: max(1, int((alone < alone[0] + 4).sum()))]
    # It may be bitten soon after it is first seen; but a smear may be no part of it.
    rank = -min(2, len(start)) if reading.haze <= CLEAR else len(start) // 2
    whole = np.sort(thing.mask[start], axis=0)[rank] > 0.8
    # What stands out hides it, even a snout that was not known for the eater's.
    covered = ndimage.binary_dilation(body, np.ones((1, 3, 3), bool)) | solid(reading.stage)
    least = 0.3
    if reading.haze > CLEAR:  # a ghost of the eater hides nothing, and one of the food is gone
        covered = body & (reading.stage.contrast > HALF * strength(reading.stage, body))
        least = 0.5
    return Food(whole, whole & (thing.mask > 0.6), whole & (thing.mask < least) & ~covered, near)


def apart(reading: Reading, eater: str, food: str) -> tuple[Mask, NDArray[np.intp]]:
    """What the eater reaches `(T, H, W)`, and the frames in which it reaches none of the food."""
    thing, body = reading.parts[food], reading.parts[eater].mask > 0.25
    reach = NEAR if reading.haze <= CLEAR else NEAR_SMEAR
    near = ndimage.binary_dilation(body, ndimage.iterate_structure(_CROSS, reach)[None])
    return near, np.flatnonzero(thing.seen & ~(near & (thing.mask > 0.5)).any((1, 2)))


def bites(reading: Reading, eater: str = "monster", food: str = "cookie") -> Findings:
    """B1: the lost share, as the least allowed over it; B2: what came back; B3: what the eater
    was never near. All in shares of the whole food."""
    seen = watch(reading, eater, food)
    if seen is None or seen.whole.sum() < 20:
        return {"B1.absent": ABSENT}
    area = float(seen.whole.sum())
    healed, uncaused = changes(seen, edge=2 if reading.haze <= CLEAR else 3)
    lost = losses(seen)
    share = float(lost[-1]) / area
    hidden = reading.parts[food].area < 0.15 * area
    return {
        **counted(reading, lost / area),
        "O1.food": worst(hidden * 1.0)._replace(value=float(hidden.sum())),
        **grown(reading, eater, food),
        "B1.absent": Finding(0.04 / max(share, 1e-3), len(lost) - 1),
        "B1.much": Finding(share, len(lost) - 1),
        "B2.heal": worst(healed / area),
        "B3.uncaused": worst(uncaused / area),
        "B3.touch": Finding(0.0) if seen.touch.any() else ABSENT,
    }


def grown(reading: Reading, eater: str, food: str) -> Findings:
    """O3: by what share the food, out of the eater's reach, is larger than it was with its bites
    filled, and the eater's change of area as the logarithm of a ratio; a smear is larger."""
    body, meal = reading.parts[eater], reading.parts[food]
    whole = visible(body)
    if reading.haze > CLEAR or len(whole) < 3:
        return {}
    size = np.abs(np.log(body.area[whole] / np.median(body.area[whole])))
    found = {"O3.eater": worst(size, whole)}
    _, alone = apart(reading, eater, food)
    if len(alone) == 0:
        return found
    # What grows back in a bite is B2's.
    start = float(np.median([meal.area[t] / solidity(meal.mask[t] > 0.5) for t in alone[:3]]))
    return {"O3.food": worst(meal.area[alone] / start - 1.0, alone), **found}


def solidity(mask: Mask) -> float:
    """Share of a mask's convex hull that is within it; 1 of one that has no hull."""
    points = np.argwhere(mask)
    if len(points) < 3 or np.ptp(points, axis=0).min() == 0:
        return 1.0
    hull = ConvexHull(points).equations
    grid = np.argwhere(np.ones_like(mask))
    within = (grid @ hull[:, :2].T + hull[:, 2] < 1e-6).all(1)
    return float(len(points) / within.sum())


def counted(reading: Reading, lost: Floats) -> Findings:
    """B1: by how many the bites differ from the asked ones.

    `lost (T,)` is the share known to be gone: it comes to light while the eater backs away.
    """
    if "times" not in reading.expect:
        return {}
    rise = np.diff(lost, prepend=0.0)
    found = swells(rise) if reading.haze > CLEAR else losses_apart(rise)
    return {"B1.times": Finding(float(abs(found - TIMES[reading.expect["times"]])), len(lost) - 1)}


def losses_apart(rise: Floats) -> int:
    """How many losses `(T,)` have peace around them: `PEACE` frames in which as good as nothing
    goes. What comes back and goes again is another."""
    calm = np.convolve(np.maximum(rise, 0.0), np.ones(PEACE), "valid") < 0.015
    peace = np.zeros(len(rise), bool)
    for k in np.flatnonzero(calm):
        peace[k : k + PEACE] = True
    labels, count = ndimage.label(~peace)
    return sum(rises(rise[labels == k + 1]) for k in range(count))


def swells(rise: Floats) -> int:
    """How many times losses `(T,)` swell where there is no peace: in a smear a bite is lost bit by
    bit. Between two, less than half of the smaller is lost in as many frames."""
    sums = np.convolve(np.maximum(rise, 0.0), np.ones(PEACE + 1))
    _, found = find_peaks(np.pad(sums, 1), height=PIECE, prominence=0.0)
    return int((found["prominences"] > 0.5 * found["peak_heights"]).sum())


def rises(steps: Floats) -> int:
    """How often the sum of steps `(N,)` rises by more than a `PIECE` before it falls by as much."""
    found, rising, turn = 0, False, 0.0
    for level in np.cumsum(steps):
        turn = max(turn, level) if rising else min(turn, level)
        if abs(level - turn) > PIECE:
            rising, turn = not rising, level
            found += rising
    return found


def changes(seen: Food, edge: int = 2) -> tuple[Floats, Floats]:
    """Pixels `(T,)` of food that came back, and that went while the eater was not near; what is
    less than `edge` pixels thick is an edge.

    Where the eater is near, its teeth may pass for food, so there nothing counts as come back.
    """
    frames, height, width = seen.there.shape
    healed, uncaused = np.zeros(frames), np.zeros(frames)
    was_gone = np.zeros((height, width), bool)
    was_there = seen.whole.copy()
    reached = seen.near[0].copy()
    for t in range(frames):
        reached |= seen.near[t]
        healed[t] = blob(was_gone & seen.there[t] & ~seen.near[t], edge)
        uncaused[t] = blob(was_there & seen.gone[t] & ~reached, edge)
        was_gone = (was_gone | seen.gone[t]) & ~seen.there[t]
        was_there = (was_there | seen.there[t]) & ~seen.gone[t]
        reached &= ~seen.there[t] | seen.near[t]
    return healed, uncaused


def blob(mask: Mask, edge: int = 2) -> float:
    """Pixels of a mask that are more than an edge: what an opening by a square leaves."""
    return float(ndimage.binary_opening(mask, np.ones((edge, edge), bool)).sum())


def losses(seen: Food) -> Floats:
    """Pixels `(T,)` known to be gone by each frame."""
    known = np.zeros(seen.whole.shape, bool)
    out = np.zeros(len(seen.gone))
    for t, gone in enumerate(seen.gone):
        known = (known | gone) & ~(seen.there[t] & ~seen.near[t])
        out[t] = blob(known)
    return out
