"""K1 and O2: even motion, and motion without jumps."""

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR
from benchmarks.physics.detectors.parts import Part
from benchmarks.physics.detectors.permanence import away
from benchmarks.physics.detectors.reading import (
    ABSENT,
    Finding,
    Findings,
    Reading,
    usual_area,
    worst,
)

CREEP = 0.7
"""Pixels a frame under which a step is no larger than the error of a place."""


def visible(thing: Part) -> NDArray[np.int64]:
    """The frames in which a thing is whole and inside the frame, or only touches its border."""
    return np.flatnonzero(thing.seen & (~away(thing) | (thing.area > 0.97 * usual_area(thing))))


def uniform(reading: Reading, name: str) -> Findings:
    """K1: distance from the best straight and even path, in parts of that path."""
    thing = reading.parts[name]
    at = visible(thing)
    if len(at) < 5:
        return {"K1.residual": ABSENT}
    t, path = reading.time[at], thing.centre[at]
    off, velocity = from_line(t, path)
    length = max(float(np.hypot(*velocity)) * (t[-1] - t[0]), 8.0)
    rms = float(np.sqrt((off**2).mean()))
    return {
        "K1.residual": worst(off, at)._replace(value=rms / length),
        "K1.change": Finding(change(t, path, 6 if smeared(reading) else 4), int(at[len(at) // 2])),
    }


def halting(reading: Reading, name: str) -> Findings:
    """K1: the most that a step falls short of the usual one, as a share of it: 1 where a thing on
    its way stands still for a frame. What moves less than `CREEP` pixels a frame has no steps."""
    thing = reading.parts[name]
    at = visible(thing)
    if len(at) < 5:
        return {"K1.halt": ABSENT}
    velocity = np.diff(thing.centre[at], axis=0) / np.diff(reading.time[at])[:, None]
    usual = np.median(velocity, axis=0)
    speed = float(np.hypot(*usual))
    if speed < CREEP:
        return {"K1.halt": Finding(0.0)}
    return {"K1.halt": worst(1.0 - velocity @ usual / speed**2, at[1:])}


def smeared(reading: Reading) -> bool:
    """Whether places are read through smears, which draw them away for some frames."""
    return reading.haze > CLEAR


def change(t: Floats, path: Floats, least: int = 4) -> float:
    """The largest change of velocity between the frames up to one and those from it on, `least` or
    more of either, as a share of the velocity of all."""
    usual = max(float(np.hypot(*from_line(t, path)[1])), 0.3)
    values = [0.0]
    for k in range(least, len(t) - least + 1):
        before, after = from_line(t[:k], path[:k])[1], from_line(t[k:], path[k:])[1]
        values.append(float(np.hypot(*(after - before))) / usual)
    return max(values)


def grounded(reading: Reading, *names: str) -> Findings:
    """K4: how far in pixels a thing's foot is above the horizon, where it is on no ground."""
    findings: Findings = {}
    for name in names:
        thing = reading.parts[name]
        at = visible(thing)
        if len(at):
            foot = thing.centre[at, 1] + np.sqrt(thing.area[at] / np.pi)
            found = worst(reading.stage.horizon - foot, at)
            found = found._replace(value=float(np.median(reading.stage.horizon - foot)))
            findings["K4.ground"] = max(findings.get("K4.ground", found), found)
    return findings


SPEEDS = {"slow": (0.0, 0.020), "medium": (0.020, 0.0335), "fast": (0.0335, 0.1)}
"""Sides a frame that a word for speed stands for; between two words lies their geometric middle."""


def speed(reading: Reading, name: str) -> Findings:
    """S2: by how much the speed lies outside what the word says, as a share of it."""
    if "speed" not in reading.expect:
        return {}
    thing = reading.parts[name]
    at = visible(thing)
    if len(at) < 5:
        return {"S2.speed": ABSENT}
    _, velocity = from_line(reading.time[at], thing.centre[at])
    sides = float(np.hypot(*velocity)) / min(reading.size)
    low, high = SPEEDS[reading.expect["speed"]]
    return {"S2.speed": Finding(max(low / max(sides, 1e-4), sides / high) - 1.0)}


def from_line(t: Floats, path: Floats) -> tuple[Floats, Floats]:
    """Distances `(N,)` of a path `(N, D)` from its best even motion, and that velocity `(D,)`."""
    basis = np.stack([np.ones_like(t), t], 1)
    fit = np.linalg.lstsq(basis, path)[0]
    return np.linalg.norm(path - basis @ fit, axis=1), fit[1]


def continuity(reading: Reading, *names: str, level: bool = False, even: bool = False) -> Findings:
    """O2: the largest step in pixels beyond the steps around it, and whether every other one fails.

    `level` looks at motion from side to side alone, for what falls and bounces. What moves `even`ly
    is judged by the mean of some places in a smeared clip.
    """
    findings: Findings = {}
    steps = shifts if even and smeared(reading) else jumps
    for name in names:
        thing = reading.parts[name]
        at = visible(thing)
        if len(at) < 4:
            continue  # too short in view to have a step beyond the others
        path = thing.centre[at] * ((1.0, 0.0) if level else (1.0, 1.0))
        found = max(worst(steps(reading.time[at], path), at), crossing(reading.time, thing, at))
        findings["O2.jump"] = max(findings.get("O2.jump", found), found)
        uneven = Finding(stutter(np.diff(path, axis=0)), int(at[0]))
        findings["O2.stutter"] = max(findings.get("O2.stutter", uneven), uneven)
    return findings


def crossing(t: Floats, thing: Part, at: NDArray[np.int64]) -> Finding:
    """The largest step in pixels beyond the usual one of what the border cuts, by the edge that it
    leaves in view; `at` are the frames in which it cuts nothing."""
    columns = thing.mask.max(1)
    cut = np.setdiff1d(np.flatnonzero(thing.seen), at)
    usual = float(np.median(np.diff(thing.centre[at, 0]) / np.diff(t[at])))
    found = Finding(0.0)
    for side, far in ((columns, columns[:, -1]), (columns[:, ::-1], columns[:, 0])):
        # Where its far side is in view or beyond the border, the near edge is where it begins.
        edge = np.array([_begin(row) for row in side])
        sign = 1.0 if side is columns else -1.0
        known = np.union1d(at, cut[(far[cut] > 0.5) & (edge[cut] > 0.5)])
        pairs = np.stack([known[:-1], known[1:]], 1)
        pairs = pairs[(np.diff(pairs, axis=1)[:, 0] == 1) & np.isin(pairs, cut).any(1)]
        steps = (edge[pairs[:, 1]] - edge[pairs[:, 0]]) / np.diff(t[pairs], axis=1)[:, 0]
        found = max(found, worst(np.abs(sign * steps - usual), pairs[:, 1]))
    return found


def _begin(row: Floats) -> float:
    """Where the cover `(W,)` of a row of pixels begins, in parts of a pixel."""
    k = int((row > 0.3).argmax())
    return float(k + 1.0 - row[k])


def stutter(steps: Floats) -> float:
    """How much steps `(N, 2)` alternate, from 0 to 1: 1 where every second one is missing."""
    if np.hypot(*steps.sum(0)) < 4.0:
        return 0.0
    along = steps @ (steps.sum(0) / np.hypot(*steps.sum(0)))
    turns = (-1.0) ** np.arange(len(along))
    return float(abs((along * turns).sum()) / np.abs(along).sum())


def shifts(t: Floats, path: Floats, few: int = 4) -> Floats:
    """How far each place but the first of a path `(N, 2)`, even once it has begun, and those after
    it are, in the mean of a `few`, from where those before it say, `(N - 1,)`."""
    rest = path - begun(t, path)
    out = np.zeros(len(t) - 1)
    for k in range(few, len(t) - few + 1):
        out[k - 1] = np.hypot(*(rest[k : k + few].mean(0) - rest[k - few : k].mean(0)))
    return out


def begun(t: Floats, path: Floats) -> Floats:
    """The path `(N, D)` of something that stands, and from some time on moves evenly, that fits
    another best; from the first frame on it may have moved."""
    fits = []
    for start in t[: len(t) // 2 + 1]:
        basis = np.stack([np.ones_like(t), np.maximum(t - start, 0.0)], 1)
        fits.append(basis @ np.linalg.lstsq(basis, path)[0])
    return min(fits, key=lambda fit: float(((path - fit) ** 2).sum()))


def jumps(t: Floats, path: Floats) -> Floats:
    """How far each step `(N - 1,)` of a path `(N, 2)` is from the median of the five around it."""
    gaps = np.diff(t)
    velocity = np.diff(path, axis=0) / gaps[:, None]
    padded = np.pad(velocity, ((2, 2), (0, 0)), mode="reflect" if len(velocity) > 2 else "edge")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0), axis=-1)
    out: Floats = np.linalg.norm(velocity - around, axis=1)
    return out
