"""E1: one thing happens, and then the other."""

import numpy as np

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading

MOVED = 1.2
"""Pixels from its first place at which a thing has surely begun to move."""


def onset(t: Floats, path: Floats) -> float:
    """When a thing on a path `(T, 2)` begins to move for good; NaN if it never does."""
    known = ~np.isnan(path[:, 0])
    t, path = t[known], path[known]
    if len(t) < 4:
        return float("nan")
    away = np.hypot(*(path - np.median(path[:3], 0)).T)
    moving = away > MOVED
    return float(t[moving.argmax()]) if moving.any() else float("nan")


def settled(t: Floats, path: Floats) -> float:
    """When a thing on a path `(T, 2)` has reached its last place; NaN if it never left it."""
    known = ~np.isnan(path[:, 0])
    t, path = t[known], path[known]
    if len(t) < 4:
        return float("nan")
    far = np.hypot(*(path - np.median(path[-2:], 0)).T) > MOVED
    return float(t[np.flatnonzero(far)[-1]]) if far.any() else float("nan")


def order(reading: Reading, first: str, then: str) -> Findings:
    """E1: how many frames too soon the second thing starts after the first has come to rest."""
    a, b = reading.parts[first], reading.parts[then]
    start, stop = onset(reading.time, a.centre), settled(reading.time, a.centre)
    begin = onset(reading.time, b.centre)
    if np.isnan(start) or np.isnan(begin):
        return {"E1.both": ABSENT}
    frame = int(np.abs(reading.time - begin).argmin())
    return {"E1.order": Finding(stop - begin, frame)}
