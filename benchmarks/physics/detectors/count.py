"""C1: as many things as the caption says, in every frame; O2 and O3 of each."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.parts import pieces
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst
from benchmarks.physics.detectors.shades import commonest, strayed

NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}


def items(reading: Reading, name: str) -> list[Floats]:
    """The pieces `(n, 4)` of a thing in every frame: area, x, y, and how far its colour strays."""
    thing = reading.parts[name]
    usual = commonest(reading.clip.lab[thing.mask > 0.9])
    labels, sizes = pieces(thing.mask > 0.5)
    least = 0.3 * float(np.median(sizes[1:])) if len(sizes) > 1 else 0.0
    out = []
    for frame, mask, lab in zip(labels, thing.mask, reading.clip.lab, strict=True):
        rows = []
        for k in np.unique(frame):
            if k and sizes[k] >= max(least, 6.0):
                where = frame == k
                y, x = np.nonzero(where)
                weight = mask[where]
                area = float(weight.sum())
                centre = ((x + 0.5) @ weight / area, (y + 0.5) @ weight / area)
                inner = ndimage.binary_erosion(where)  # an outline has a colour of its own
                rows.append((area, *centre, strayed(lab[inner if inner.any() else where], usual)))
        out.append(np.array(rows, np.float64).reshape(-1, 4))
    return out


def counting(reading: Reading, name: str = "balls") -> Findings:
    """C1: the share of frames, and the most in a row, whose count is not the asked one."""
    found = items(reading, name)
    counts = np.array([len(frame) for frame in found])
    usual = int(np.bincount(counts).argmax())
    asked = NUMBERS[reading.expect["number"]] if "number" in reading.expect else usual
    wrong = counts != asked
    return {
        "C1.share": Finding(float(wrong.mean()), int(wrong.argmax())),
        "C1.run": Finding(float(longest(wrong)), int(wrong.argmax())),
        "O1.count": Finding(float(np.abs(counts - usual).sum()), int((counts != usual).argmax())),
        **steadiness(found),
        **standing(found),
        "K4.ground": lowest(reading, found),
    }


def lowest(reading: Reading, found: list[Floats]) -> Finding:
    """How far in pixels the highest foot is above the horizon, in most frames."""
    feet = [reading.stage.horizon - f[:, 2] - np.sqrt(f[:, 0] / np.pi) for f in found if len(f)]
    return Finding(float(np.median([foot.max() for foot in feet]))) if feet else ABSENT


def standing(found: list[Floats]) -> Findings:
    """How far in pixels a thing is at the end from where it was, and how much all have grown."""
    ends = [[frame for frame in part if len(frame)] for part in (found[:3], found[-3:])]
    if not ends[0] or not ends[1]:
        return {"O2.stay": ABSENT}
    first, last = ends[0][0], ends[1][-1]
    far = np.hypot(*(first[:, None, 1:3] - last[None, :, 1:3]).transpose(2, 0, 1))
    rows, columns = linear_sum_assignment(far)
    sizes = np.log([frame[:, 0].mean() for frame in found if len(frame)])
    return {
        "O2.stay": Finding(float(far[rows, columns].max()), len(found) - 1),
        "O3.grown": Finding(float(np.ptp(sizes)), int(np.argmax(np.abs(sizes - sizes[0])))),
    }


def longest(flags: NDArray[np.bool_]) -> int:
    """The length of the longest run of true values."""
    best = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        best = max(best, run)
    return best


def steadiness(found: list[Floats]) -> Findings:
    """Of pieces matched from frame to frame: their largest step, and change of area and colour."""
    first = next((k for k, frame in enumerate(found) if len(frame)), None)
    if first is None:
        return {"O2.jump": ABSENT}
    before, step, area, drift = found[first], [0.0], [0.0], [0.0]
    for now in found[first + 1 :]:
        far = np.hypot(*(before[:, None, 1:3] - now[None, :, 1:3]).transpose(2, 0, 1))
        rows, columns = linear_sum_assignment(far)
        step.append(float(far[rows, columns].max(initial=0.0)))
        change = np.abs(np.log(now[columns, 0] / before[rows, 0]))
        area.append(float(change.max(initial=0.0)))
        drift.append(float(now[:, 3].max(initial=0.0)))
        before = now if len(now) else before
    return {
        "O2.jump": worst(np.array(step)),
        "O3.area": worst(np.array(area)),
        "O3.colour": worst(np.array(drift)),
    }
