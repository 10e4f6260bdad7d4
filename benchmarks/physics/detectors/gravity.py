"""K2 and K4: free fall and bounces."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR, rest_of
from benchmarks.physics.detectors.motion import from_line, visible
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst

BEGUN = 0.8
"""Pixels fallen from which a ball is surely on its way."""
PLACE = 0.1
"""Pixels by which the place of a ball may be off where nothing is smeared."""


@dataclass(frozen=True)
class Fall:
    """A ball in flight after flight under one gravity: `y = y0 + v0 t + g t^2 / 2`, y down.

    `flights` are frames, `rest (T,)` the distance to the fit in pixels where it holds, `curves`
    `(flights, 2)` y0 and v0, `impacts` times where two flights meet, `level` there.
    """

    flights: list[NDArray[np.int64]]
    gravity: float
    curves: Floats
    rest: Floats
    impacts: list[float]
    level: float


def flights(y: Floats) -> list[NDArray[np.int64]]:
    """Frames of each flight: from the first motion down, cut at the lowest frame of each bounce."""
    moving = np.flatnonzero(y > y[: max(2, len(y) // 4)].min() + BEGUN)
    if len(moving) == 0:
        return []
    start = int(moving[0])
    step = np.diff(y)
    turns = [
        t
        for t in range(start + 1, len(y) - 1)
        if step[t - 1] > 0 >= step[t]
        and y[t] - max(y[max(0, t - 2)], y[min(t + 2, len(y) - 1)]) > 0.5
    ]
    edges = [start - 1, *turns, len(y)]
    return [np.arange(a + 1, b) for a, b in zip(edges, edges[1:], strict=False)]


def fit(t: Floats, y: Floats) -> Fall | None:
    """One gravity over all flights of at least three frames; None where nothing falls.

    A frame at the end of a flight and near the ground may lie beyond a bounce: it is left out if
    the others say so.
    """
    fall = _fit(t, y, flights(y))
    if fall is None:
        return None
    low = y > y.max() - 0.35 * np.ptp(y)
    trimmed = []
    for part in fall.flights:
        first, last = part[0], part[-1]
        ends = [k for k in (first, last) if low[k] and fall.rest[k] > 0.25]
        trimmed.append(np.setdiff1d(part, ends) if len(part) > 4 else part)
    return _fit(t, y, trimmed) or fall


def _without_worst(t: Floats, y: Floats, fall: Fall) -> Fall:
    """The fit without the place of each long flight that strays most: it may be a ghost's."""
    parts = [np.delete(p, fall.rest[p].argmax()) if len(p) > 4 else p for p in fall.flights]
    return _fit(t, y, parts) or fall


def _fit(t: Floats, y: Floats, parts: list[NDArray[np.int64]]) -> Fall | None:
    parts = [part for part in parts if len(part) >= 3]
    if not parts or sum(map(len, parts)) < 4:
        return None
    basis, rows = _basis(t, parts), np.concatenate(parts)
    answer = np.linalg.lstsq(basis, y[rows])[0]
    curves, gravity = answer[:-1].reshape(-1, 2), float(answer[-1])
    rest = np.zeros(len(y))
    rest[rows] = np.abs(y[rows] - basis @ answer)
    impacts, level = _meet(curves, gravity)
    return Fall(parts, gravity, curves, rest, impacts, level)


def _basis(t: Floats, parts: list[NDArray[np.int64]]) -> Floats:
    """What places `(N,)` of flights are sums of, `(N, 2 flights + 1)`: 1 and t of each flight, and
    t^2 / 2 of all, whose share is their gravity."""
    rows = np.concatenate(parts)
    basis = np.zeros((len(rows), 2 * len(parts) + 1))
    basis[:, -1] = 0.5 * t[rows] ** 2
    at = 0
    for k, part in enumerate(parts):
        basis[at : at + len(part), 2 * k] = 1.0
        basis[at : at + len(part), 2 * k + 1] = t[part]
        at += len(part)
    return basis


def _meet(curves: Floats, gravity: float) -> tuple[list[float], float]:
    """Times at which flights meet: under one gravity their difference is a straight line."""
    times, levels = [], []
    for (y0, v0), (y1, v1) in zip(curves, curves[1:], strict=False):
        if abs(v1 - v0) > 1e-6:
            when = float((y0 - y1) / (v1 - v0))
            times.append(when)
            levels.append(float(y0 + v0 * when + 0.5 * gravity * when**2))
    return times, float(np.median(levels)) if levels else float("nan")


def gravity(reading: Reading, name: str) -> Findings:
    """K2: down, even, and as strong in every flight; K4: no bounce returns more than it got."""
    thing = reading.parts[name]
    at = visible(thing)
    if len(at) < 6:
        return {"K2.residual": ABSENT}
    t, y = reading.time[at], thing.centre[at, 1]
    fall = fit(t, y)
    if fall is None:
        return {"K2.fall": ABSENT, "K4.bounce": ABSENT}
    smeared = reading.haze > CLEAR
    if smeared:
        fall = _without_worst(t, y, fall)
    height = max(float(np.ptp(y)), 8.0)
    rest = fall.rest[np.concatenate(fall.flights)]
    start = float(t[fall.flights[0][0]] - t[0])
    found = {
        "K2.residual": Finding(rest_of(rest, reading.haze) / height, int(at[fall.rest.argmax()])),
        "K2.fall": Finding(start, int(at[0])),
        "K2.strength": Finding(abs(float(np.log(max(fall.gravity, 1e-3) / 1.15)))),
        "K2.change": _change(t, y, fall, smeared),
        "K2.rate": Finding(from_rest(t, y, fall, smeared), int(at[fall.flights[0][0]])),
        "K2.aside": aside(t, thing.centre[at, 0]),
        "K4.through": worst(y + np.sqrt(thing.area[at] / np.pi) - reading.stage.horizon, at),
    }
    return found | _bounces(reading, name, fall, at)


def aside(t: Floats, x: Floats) -> Finding:
    """How far, rms in pixels, it is pulled sideways: nothing changes its speed along the ground."""
    off, _ = from_line(t, x[:, None])
    return Finding(float(np.sqrt((off**2).mean())))


def from_rest(t: Floats, y: Floats, fall: Fall, smeared: bool) -> float:
    """By what factor, as a logarithm, the first fall belies the gravity of the flights after it.

    What falls from rest has gone g s^2 / 2 after a time s: the root of its way grows evenly. An
    error of a way is one of its root by that over twice the root, hence the weights. It hung no
    lower than its first places. What an error of `PLACE` makes of the gravity of so few frames is
    allowed; in a smeared clip two standard errors of that, by how far places stray from the fall,
    and of the root's growth.
    """
    part = fall.flights[0]
    root = np.sqrt(np.maximum(y[part] - y[:2].min(), 0.0))
    (rate, _), spread = np.polyfit(t[part], root, 1, w=np.maximum(root, 0.1), cov=True)
    later, doubt = _later(t, y, fall)
    off = abs(float(np.log(max(2.0 * rate * abs(rate), 1e-3) / max(later, 1e-3))))
    error = 2.0 * max(PLACE, _noise(fall)) if smeared else PLACE
    off -= error * doubt / max(later, 1e-3)
    off -= 4.0 * smeared * float(np.sqrt(spread[0, 0])) / max(abs(float(rate)), 1e-3)
    return max(off, 0.0)


def _noise(fall: Fall) -> float:
    """By how many pixels places stray from a fall: the standard error of one."""
    rest = fall.rest[np.concatenate(fall.flights)]
    return float(np.sqrt((rest**2).sum() / max(len(rest) - 2 * len(fall.flights) - 1, 1)))


def _later(t: Floats, y: Floats, fall: Fall) -> tuple[float, float]:
    """The gravity of all flights but the first, whose error would hide in it, and its error for one
    of places of a pixel; that of the whole fall where nothing follows."""
    parts = fall.flights[1:]
    if not parts:
        return fall.gravity, 0.0
    basis, rows = _basis(t, parts), np.concatenate(parts)
    answer = np.linalg.lstsq(basis, y[rows])[0]
    return float(answer[-1]), float(np.sqrt(np.linalg.inv(basis.T @ basis)[-1, -1]))


def _change(t: Floats, y: Floats, fall: Fall, smeared: bool) -> Finding:
    """The largest share by which the gravity of a long flight differs from that of all, in a
    smeared clip beyond two standard errors of it."""
    values = [Finding(0.0)]
    for part in fall.flights:
        if len(part) >= 6:
            basis = np.vander(t[part] - t[part].mean(), 3)
            answer = np.linalg.lstsq(basis, y[part])[0]
            noise = ((y[part] - basis @ answer) ** 2).sum() / (len(part) - 3)
            doubt = 4.0 * smeared * np.sqrt(noise * np.linalg.inv(basis.T @ basis)[0, 0])
            beyond = max(abs(2.0 * answer[0] - fall.gravity) - doubt, 0.0)
            share = beyond / max(abs(fall.gravity), 1e-3)
            values.append(Finding(float(share), int(part[0])))
    return max(values)


def _bounces(reading: Reading, name: str, fall: Fall, at: NDArray[np.int64]) -> Findings:
    if not fall.impacts:
        return {"K4.bounce": ABSENT}
    ratios = []
    for (_, v0), (_, v1), when in zip(fall.curves, fall.curves[1:], fall.impacts, strict=False):
        down, up = v0 + fall.gravity * when, -(v1 + fall.gravity * when)
        ratios.append(float(up / down) if down > 0.05 else float("inf"))
    frame = int(at[fall.flights[0][-1]])
    radius = float(np.sqrt(np.median(reading.parts[name].area[at]) / np.pi))
    return {
        "K4.gain": Finding(max(ratios), frame),
        "K4.constant": Finding(max(ratios) / max(min(ratios), 1e-3) - 1.0, frame),
        "K4.ground": Finding(float(reading.stage.horizon - fall.level - radius), frame),
    }
