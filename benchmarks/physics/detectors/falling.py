"""K2 without a bounce: one fall that ends on the ground."""

import numpy as np

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR, rest_of
from benchmarks.physics.detectors.motion import visible
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading

NEAR = 2.0
"""Pixels above the floor from which a thing may have landed, as far as a blurred frame tells."""


def _rate(t: Floats, root: Floats) -> Floats:
    """The line that roots of ways `(N,)` follow; an error of a way is less of one of a long root.

    The slope is the root of half of gravity.
    """
    return np.asarray(np.polyfit(t, root, 1, w=root))


def _off(t: Floats, way: Floats, fit: Floats) -> Floats:
    return np.asarray(way - np.maximum(np.polyval(fit, t), 0.0) ** 2)


def one_fall(reading: Reading, name: str) -> Findings:
    """K2 of a thing that hangs, falls under one gravity, and lies still on the ground."""
    thing = reading.parts[name]
    at = visible(thing)
    if len(at) < 8:
        return {"K2.fall": ABSENT}
    t, y = reading.time[at], thing.centre[at, 1]
    top, floor = float(np.median(y[:2])), float(np.median(y[-3:]))
    height = floor - top
    falling = (y > top + 0.8) & (y < floor - 0.8)
    if height < 8.0 or falling.sum() < 3:
        return {"K2.fall": ABSENT}
    first = int(falling.argmax())
    landed = np.flatnonzero(~falling[first:])  # from there on a waver is no fall
    last = first + int(landed[0]) - 1 if len(landed) else len(y) - 1
    if last - first < 2:
        return {"K2.fall": ABSENT}
    run = np.arange(first, last + 1)
    root = np.sqrt(np.maximum(y[run] - top, 0.0))
    fit = _rate(t[run], root)
    if len(run) > 3 and floor - y[last] < NEAR:
        before = _rate(t[run[:-1]], root[:-1])
        if np.polyval(before, t[last]) ** 2 > floor - top:  # it has landed since the frame before
            run, fit = run[:-1], before
    off = _off(t[run], y[run] - top, fit)
    if reading.haze > CLEAR and len(run) > 4:  # one place may be that of a ghost
        best = np.delete(run, np.abs(off).argmax())
        fit = _rate(t[best], np.sqrt(np.maximum(y[best] - top, 0.0)))
        off = _off(t[run], y[run] - top, fit)
    rest = np.concatenate([y[: max(first - 1, 1)] - top, y[last + 2 :] - floor])
    radius = float(np.sqrt(np.median(thing.area[at]) / np.pi))
    return {
        "K2.residual": Finding(rest_of(off, reading.haze) / height, int(at[first])),
        "K2.strength": Finding(
            abs(float(np.log(max(2.0 * fit[0] ** 2, 1e-3) / 3.4))), int(at[first])
        ),
        "K2.hang": Finding(float(np.abs(rest).max()), int(at[0])),
        "K4.ground": Finding(float(reading.stage.horizon - floor - radius), int(at[-1])),
    }
