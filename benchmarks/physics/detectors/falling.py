"""K2 without a bounce: one fall that ends on the ground."""

import numpy as np

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR, rest_of
from benchmarks.physics.detectors.motion import visible
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading

NEAR = 2.0
"""Pixels above the floor from which a thing may have landed, as far as a blurred frame tells."""
ROUNDS = 20
"""In which ways and their line settle; a ball moves some pixels a frame, a round a part of them."""


def _rate(t: Floats, root: Floats, sure: Floats | float = 1.0) -> Floats:
    """The line that roots of ways `(N,)` follow; an error of a way is less of one of a long root.

    The slope is the root of half of gravity. `sure (N,)` is how surely each way is read.
    """
    return np.asarray(np.polyfit(t, root, 1, w=root * sure))


def _settled(t: Floats, way: Floats, sure: Floats, doubt: Floats) -> Floats:
    """The ways `(N,)` that one line fits best of those that a smear leaves open, from `doubt[:, 0]`
    less to `doubt[:, 1]` more: each goes to where the others say, as far as it may."""
    low, high = np.maximum(way - doubt[:, 0], 0.0), way + doubt[:, 1]
    for _ in range(ROUNDS if doubt.any() else 0):
        fit = _rate(t, np.sqrt(way), sure)
        way = np.clip(np.maximum(np.polyval(fit, t), 0.0) ** 2, low, high)
    return way


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
    hazy = reading.haze > CLEAR
    radius = float(np.sqrt(np.median(thing.area[at]) / np.pi))
    falling = (y > top + 0.8) & (y + thing.doubt[at, 1] < floor - (NEAR if hazy else 0.8))
    if height < 8.0 or falling.sum() < 3:
        return {"K2.fall": ABSENT}
    first = int(falling.argmax())
    landed = np.flatnonzero(~falling[first:])  # from there on a waver is no fall
    last = first + int(landed[0]) - 1 if len(landed) else len(y) - 1
    if last - first < 2:
        return {"K2.fall": ABSENT}
    run = np.arange(first, last + 1)
    # Where it overlaps its ghost from before, a smear draws it there.
    sure = np.where(hazy & (y - top < radius), 1.0 / 3.0, 1.0)
    way = y - top
    way[run] = _settled(t[run], np.maximum(way[run], 0.0), sure[run], thing.doubt[at[run]])
    root = np.sqrt(np.maximum(way, 0.0))
    fit = _rate(t[run], root[run], sure[run])
    if len(run) > 3 and floor - y[last] < NEAR:
        before = _rate(t[run[:-1]], root[run[:-1]], sure[run[:-1]])
        if np.polyval(before, t[last]) ** 2 > floor - top:  # it has landed since the frame before
            run, fit = run[:-1], before
    off = _off(t[run], way[run], fit)
    if hazy and len(run) > 3:  # one place may be that of a ghost
        best = np.delete(run, np.abs(off).argmax())
        fit = _rate(t[best], root[best], sure[best])
        off = _off(t[run], way[run], fit)
    rest = np.concatenate([y[: max(first - 1, 1)] - top, y[last + 2 :] - floor])
    return {
        "K2.residual": Finding(rest_of(off, reading.haze) / height, int(at[first])),
        "K2.strength": Finding(
            abs(float(np.log(max(2.0 * fit[0] ** 2, 1e-3) / 3.4))), int(at[first])
        ),
        "K2.hang": Finding(float(np.abs(rest).max()), int(at[0])),
        "K4.ground": Finding(float(reading.stage.horizon - floor - radius), int(at[-1])),
    }
