"""K3 and K6: two balls meet, exchange momentum, and never overlap."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR, rest_of
from benchmarks.physics.detectors.motion import visible
from benchmarks.physics.detectors.parts import Part
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading


@dataclass(frozen=True)
class Meeting:
    """Velocities along x `before (2,)` and `after (2,)` of two balls, pixels a frame, and when.

    `off (T, 2)` is how far in pixels the paths stray from even motion before and after, `doubt`
    the standard error of the speed at which they part.
    """

    contact: float
    before: Floats
    after: Floats
    off: Floats
    doubt: float


def meeting(t: Floats, x: Floats, reach: float) -> Meeting | None:
    """Fit even motion before and after the contact of two balls at `x (T, 2)`.

    They touch when their middles are `reach` apart. The contact is sought at every frame where
    both sides have three, as the one that leaves the least error.
    """
    if len(t) < 7:
        return None
    best: tuple[float, int] | None = None
    for k in range(3, len(t) - 2):
        error = _error(t[:k], x[:k]) + _error(t[k:], x[k:])
        if best is None or error < best[0]:
            best = (error, k)
    assert best is not None
    k = best[1]
    (a0, v0), (a1, v1) = (np.polyfit(t[s], x[s], 1)[::-1] for s in (slice(None, k), slice(k, None)))
    gap, closing = a0[1] - a0[0], v0[1] - v0[0]
    side = np.sign(gap + closing * t[0]) or 1.0
    when = (side * reach - gap) / closing if abs(closing) > 1e-3 else float("nan")
    off = x - np.where(np.arange(len(t))[:, None] < k, a0 + t[:, None] * v0, a1 + t[:, None] * v1)
    after = t[k:] - t[k:].mean()
    doubt = np.sqrt((off[k:] ** 2).sum() / max(len(after) - 2, 1) / (after**2).sum())
    return Meeting(float(when), v0, v1, off, float(doubt))


def _error(t: Floats, x: Floats) -> float:
    fit = np.polyfit(t, x, 1)
    return float(((x - t[:, None] * fit[0] - fit[1]) ** 2).sum())


def collision(reading: Reading, mover: str, target: str) -> Findings:
    """K3: momentum and energy along the floor, masses as areas; the push comes at the contact.

    Shares are of what the mover brings. `K3.restitution` is how far the ratio of parting to
    closing speed is below 1, the elastic one that this family has.
    """
    a, b = reading.parts[mover], reading.parts[target]
    at = np.intersect1d(visible(a), visible(b))
    t, x = reading.time[at], np.stack([a.centre[at, 0], b.centre[at, 0]], 1)
    radii = sizes(a, b, at)
    reach = 2.0 * float(np.sqrt(radii.prod()))
    met = meeting(t, x, reach)
    if met is None:
        return {"K3.momentum": ABSENT}
    mass = radii**2
    brought = float((mass * np.abs(met.before)).sum())
    energy = float((mass * met.before**2).sum())
    if brought < 0.3 * mass.min():
        return {"K3.momentum": ABSENT}
    momentum = float((mass * met.after).sum() - (mass * met.before).sum()) / brought
    change = float((mass * met.after**2).sum()) / energy - 1.0
    closing = float(met.before[0] - met.before[1])
    parting = float(met.after[1] - met.after[0])
    near = int(at[np.abs(t - met.contact).argmin()]) if np.isfinite(met.contact) else int(at[0])
    # A smear draws places away: two standard errors are allowed then.
    doubt = 2.0 * met.doubt / max(abs(closing), 1e-3) if reading.haze > CLEAR else 0.0
    gaps = np.abs(x[:, 0] - x[:, 1])
    late = _lateness(t, x, met)
    crossed = bool((np.sign(x[:, 1] - x[:, 0]) != np.sign(x[0, 1] - x[0, 0])).any())
    return {
        "K3.momentum": Finding(abs(momentum), near),
        "K3.energy": Finding(abs(change), near),
        "K3.restitution": Finding(max(abs(1.0 - parting / closing) - doubt, 0.0), near),
        "K3.even": Finding(rest_of(met.off.ravel(), reading.haze), near),
        "K3.contact": Finding(late, near),
        "K6.overlap": Finding(float((reach - gaps).max()), int(at[gaps.argmin()])),
        "K6.through": Finding(float(crossed), near),
        "C2.roles": Finding(abs(float(met.before[1])) / max(abs(float(met.before[0])), 1e-3), 0),
    }


def sizes(a: Part, b: Part, at: NDArray[np.int64]) -> Floats:
    """Radii `(2,)` in pixels of two balls in some frames, from their areas.

    What stands on one floor differs in height by what it differs in radius. Both measures err, as
    an outline may be lost before a ground of its own shade: where they agree to a pixel, their mean
    is taken.
    """
    radii = np.sqrt([np.median(p.area[at]) / np.pi if len(at) else 0.0 for p in (a, b)])
    if len(at):
        differ = float(np.median(b.centre[at, 1] - a.centre[at, 1])) - (radii[0] - radii[1])
        if abs(differ) < 1.0:
            radii = radii + 0.25 * differ * np.array([1.0, -1.0])
    out: Floats = radii
    return out


def _lateness(t: Floats, x: Floats, met: Meeting) -> float:
    """Frames between the touch and the change of the target's motion."""
    pushed = met.after[1] - met.before[1]
    if abs(pushed) < 0.05 or not np.isfinite(met.contact):
        return float("inf")
    start = x[t < met.contact - 0.5, 1]
    home = float(np.median(start)) if len(start) else float(x[0, 1])
    moving = np.abs(x[:, 1] - home) > 0.6
    if not moving.any():
        return float("inf")
    k = int(moving.argmax())
    began = t[k] - abs(x[k, 1] - home) / abs(pushed)
    return float(abs(began - met.contact))
