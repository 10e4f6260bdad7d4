"""S1: left and right are as the caption says."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading

SIGN = {"left": -1.0, "right": 1.0}


def heading(reading: Reading, name: str, slot: str = "direction") -> Findings:
    """How far a thing went against the asked direction, in pixels; little motion is against it."""
    if slot not in reading.expect:
        return {}
    thing = reading.parts[name]
    x = thing.centre[thing.seen, 0]
    if len(x) < 3:
        return {"S1.heading": ABSENT}
    third = max(1, len(x) // 3)
    went = SIGN[reading.expect[slot]] * float(np.mean(x[-third:]) - np.mean(x[:third]))
    return {"S1.heading": Finding(-went, int(np.flatnonzero(thing.seen)[-1]))}


def beside(reading: Reading, name: str, other: str, slot: str = "direction") -> Findings:
    """Frames in which a thing is not on the asked side of another, as a share of the clip."""
    if slot not in reading.expect:
        return {}
    a, b = reading.parts[name], reading.parts[other]
    both = a.seen & b.seen
    if not both.any():
        return {"S1.side": ABSENT}
    gap = SIGN[reading.expect[slot]] * (a.centre[both, 0] - b.centre[both, 0])
    return {"S1.side": _share(gap <= 0, np.flatnonzero(both))}


def _share(wrong: NDArray[np.bool_], frames: NDArray[np.int64]) -> Finding:
    frame = int(frames[wrong.argmax()]) if wrong.any() else 0
    return Finding(float(wrong.mean()), frame)
