"""O1 behind a wall: what goes in comes out, on the other side and on time."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.motion import from_line, smeared
from benchmarks.physics.detectors.permanence import away, permanence
from benchmarks.physics.detectors.reading import (
    ABSENT,
    Finding,
    Findings,
    Reading,
    usual_area,
    worst,
)
from benchmarks.physics.detectors.steady import off_level


def free_of(reading: Reading, name: str, wall: str) -> NDArray[np.bool_]:
    """Frames `(T,)` in which a disc is whole and does not touch the wall.

    Its middle tells that better than its mask, which a smear draws out to the wall.
    """
    thing, size = reading.parts[name], usual_area(reading.parts[name])
    left, right = span(reading, wall)
    x, radius = thing.centre[:, 0], float(np.sqrt(size / np.pi))
    beside = (x + radius > left) & (x - radius < right)
    free: NDArray[np.bool_] = thing.seen & (thing.area > 0.8 * size) & ~away(thing) & ~beside
    return free


def span(reading: Reading, wall: str) -> tuple[float, float]:
    """Left and right edge of the wall in pixels."""
    columns = np.flatnonzero(np.median(reading.parts[wall].mask, 0).max(0) > 0.5)
    return (float(columns[0]), float(columns[-1] + 1)) if len(columns) else (np.nan, np.nan)


@dataclass(frozen=True)
class Course:
    """A thing's even way past a wall: in frames `at (N,)` it is free, on one of two `sides (N,)`.

    `x (T,)` is where its middle should be, `velocity (2,)` in pixels a frame, `off (N,)` how far it
    strays, `wall` the left and right edge.
    """

    at: NDArray[np.int64]
    sides: NDArray[np.bool_]
    x: Floats
    velocity: Floats
    off: Floats
    wall: tuple[float, float]


def course(reading: Reading, name: str, wall: str) -> Course | None:
    """The way of a thing that is seen free of the wall on both sides of it; else None."""
    thing = reading.parts[name]
    left, right = span(reading, wall)
    at = np.flatnonzero(free_of(reading, name, wall))
    sides = thing.centre[at, 0] < 0.5 * (left + right)
    if len(at) < 4 or sides.all() or not sides.any():
        return None
    t, path = reading.time[at], thing.centre[at]
    off, velocity = from_line(t, path)
    x = np.median(path - np.outer(t, velocity), 0)[0] + velocity[0] * reading.time
    return Course(at, sides, x, velocity, off, (left, right))


def passage(reading: Reading, name: str = "ball", wall: str = "wall") -> Findings:
    """K1 over both sides of the wall, O1 while the path says that the thing is in view."""
    thing, way = reading.parts[name], course(reading, name, wall)
    if way is None:
        return {"O1.passage": ABSENT}
    t, path, (left, right) = reading.time[way.at], thing.centre[way.at], way.wall
    length = max(float(np.hypot(*way.velocity)) * (t[-1] - t[0]), 8.0)
    radius = float(np.sqrt(usual_area(thing) / np.pi))
    inside = (way.x > left + 0.3 * radius) & (way.x < right - 0.3 * radius)
    through = np.where(inside, thing.area / usual_area(thing), 0.0)
    broken = 1.0 - reading.parts[wall].area / np.median(reading.parts[wall].area)
    rms = float(np.sqrt((way.off**2).mean()))
    return {
        "K1.residual": worst(way.off, way.at)._replace(value=rms / length),
        "O1.late": _latest(reading, way, t, path[:, 0]),
        "K4.level": worst(off_level(thing, way.at), way.at),
        "K6.through": worst(through),
        "K6.wall": worst(np.abs(broken)),
        **permanence(reading, name, due=beyond(way.x, radius, way.wall)),
    }


def in_view(reading: Reading, name: str = "ball", wall: str = "wall") -> NDArray[np.bool_]:
    """Frames `(T,)` in which the way of a thing is not behind the wall; all if it has none."""
    way = course(reading, name, wall)
    if way is None:
        return np.ones(len(reading.time), bool)
    radius = float(np.sqrt(usual_area(reading.parts[name]) / np.pi))
    return np.asarray(beyond(way.x, radius, way.wall) > 0.35)


def beyond(x: Floats, radius: float, wall: tuple[float, float]) -> Floats:
    """The share of a disc with its middle at `x (T,)` that a wall from left to right leaves free.

    Within 1.5 pixels of the wall an edge may be taken for the wall's, and is left out.
    """
    left, right = ((edge - x) / radius for edge in (wall[0] - 1.5, wall[1] + 1.5))
    free: Floats = _under(left) + 1.0 - _under(right)
    near = (left < 1.0) & (right > -1.0)
    return np.where(near, free, 1.0)


def _under(cut: Floats) -> Floats:
    """The share of a unit disc on the near side of a line at `cut` from its middle."""
    cut = np.clip(cut, -1.0, 1.0)
    return np.asarray(0.5 + (cut * np.sqrt(1.0 - cut**2) + np.arcsin(cut)) / np.pi)


def _latest(reading: Reading, way: Course, t: Floats, x: Floats) -> Finding:
    """What is late behind the wall or, where no smear draws places away, between any two frames."""
    cuts = [way.sides]
    if not smeared(reading):
        cuts += [t < then for then in t[1:]]
    late = [_late(t, x, cut, way.wall[1] - way.wall[0]) for cut in cuts]
    k = int(np.argmax(late))
    return Finding(late[k], int(way.at[np.argmin(cuts[k])]))


def _late(t: Floats, x: Floats, sides: NDArray[np.bool_], width: float) -> float:
    """How much sooner or later it comes out than its speed before and after says, as a share of
    the time that it takes for the width of the wall; two standard errors of that are allowed."""
    basis = np.stack([t, sides, ~sides], 1).astype(np.float64)
    speed, first, then = answer = np.linalg.lstsq(basis, x)[0]
    if abs(speed) < 1e-3:
        return float("inf")
    noise = ((x - basis @ answer) ** 2).sum() / max(len(t) - 3, 1)
    spread = np.array([0.0, 1.0, -1.0])
    doubt = float(np.sqrt(noise * (spread @ np.linalg.pinv(basis.T @ basis) @ spread)))
    return float(max(abs(first - then) - 2.0 * doubt, 0.0) / max(width, abs(speed)))
