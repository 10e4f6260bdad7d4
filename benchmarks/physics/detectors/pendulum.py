"""K5: a rod of one length, a pivot that stays, and a damped swing."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR
from benchmarks.physics.detectors.motion import visible
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst

STRENGTH = 9.1
"""Pixels a frame squared: the family's one gravity, so that T^2 is to length as everywhere."""


def swing(t: Floats, angle: Floats) -> tuple[float, float, float, float]:
    """Least-squares `angle = (a cos wt + b sin wt) exp(-g t)`: w, g, amplitude and 1 - R^2."""
    w, g = (grid.ravel() for grid in np.meshgrid(np.linspace(0.15, 1.2, 106), _DAMPING))
    best = _fit(t, angle, w, g)
    fine = [np.linspace(-1, 1, 21) * step for step in (0.01, 0.01)]
    w, g = (grid.ravel() for grid in np.meshgrid(best[0] + fine[0], best[1] + fine[1]))
    return _fit(t, angle, w, g)


_DAMPING = np.linspace(-0.06, 0.08, 15)


def _fit(t: Floats, angle: Floats, w: Floats, g: Floats) -> tuple[float, float, float, float]:
    fade = np.exp(-g[:, None] * t)
    c, s = np.cos(w[:, None] * t) * fade, np.sin(w[:, None] * t) * fade
    cc, ss, cs = (c * c).sum(1), (s * s).sum(1), (c * s).sum(1)
    ca, sa = c @ angle, s @ angle
    det = np.maximum(cc * ss - cs**2, 1e-9)
    a, b = (ss * ca - cs * sa) / det, (cc * sa - cs * ca) / det
    rest = ((a[:, None] * c + b[:, None] * s - angle) ** 2).sum(1)
    k = int(rest.argmin())
    total = max(float((angle**2).sum()), 1e-9)
    return float(w[k]), float(g[k]), float(np.hypot(a[k], b[k])), float(rest[k]) / total


def pendulum(reading: Reading, bob: str = "bob", beam: str = "beam") -> Findings:
    """K5 of a bob that hangs from a beam; angles in radians, rates per frame."""
    thing, support = reading.parts[bob], reading.parts[beam]
    at = visible(thing)
    if len(at) < 8 or not support.seen.any():
        return {"K5.rod": ABSENT}
    t, path = reading.time[at], thing.centre[at]
    pivot = hinge(reading, beam, path)
    rod = np.hypot(*(path - pivot).T)
    length = float(np.median(rod))
    angle = np.arctan2(path[:, 0] - pivot[0], path[:, 1] - pivot[1])
    rate, damping, amplitude, rest = swing(t, angle)
    fitted = along(t, angle, rate, damping)
    anchored = support.centre[support.seen]
    drift = np.hypot(*(anchored - np.median(anchored, 0)).T)
    strayed = np.hypot(*(path - _on_swing(pivot, length, fitted)).T)
    if reading.haze > CLEAR:  # a ghost may draw a place or two away
        strayed = ndimage.median_filter(strayed, 3)
    seen = rod_contrast(reading, pivot, path, at)
    pull = rate**2 + damping**2
    return {
        "K5.rod": worst(np.abs(rod / length - 1.0), at),
        "K5.seen": worst(1.0 - seen / max(float(np.median(seen)), 1.0), at),
        "K5.pivot": worst(drift, np.flatnonzero(support.seen)),
        "K5.swing": Finding(rest, int(at[0])),
        "K5.gain": Finding(-damping, int(at[-1])),
        "O2.jump": worst(strayed, at),
        "K5.still": Finding(-amplitude, int(at[0])),
        "K5.period": Finding(abs(float(np.log(max(pull, 1e-6) * length / STRENGTH))), int(at[0])),
    }


def rod_contrast(reading: Reading, pivot: Floats, path: Floats, at: NDArray[np.int64]) -> Floats:
    """How much the middle third of the rod stands out in some frames, Lab `(N,)`."""
    contrast = ndimage.maximum_filter(reading.stage.contrast, (0, 1, 3))
    share = np.linspace(0.3, 0.65, 9)[:, None]
    out = np.empty(len(at))
    for k, t in enumerate(at):
        x, y = (share * (path[k] - pivot) + pivot).astype(int).T
        out[k] = contrast[t, np.maximum(y, 0), np.clip(x, 0, contrast.shape[2] - 1)].mean()
    return out


def along(t: Floats, angle: Floats, rate: float, damping: float) -> Floats:
    """The angles `(N,)` of the best swing of a rate and a damping."""
    fade = np.exp(-damping * t)
    basis = np.stack([np.cos(rate * t) * fade, np.sin(rate * t) * fade], 1)
    out: Floats = basis @ np.linalg.lstsq(basis, angle)[0]
    return out


def _on_swing(pivot: Floats, length: float, angle: Floats) -> Floats:
    return pivot + length * np.stack([np.sin(angle), np.cos(angle)], 1)


def hinge(reading: Reading, beam: str, path: Floats) -> Floats:
    """Where the rod is fixed `(2,)`: under the middle of the beam, as high as leaves the bob
    on a circle in most frames.
    """
    support = reading.parts[beam]
    x = float(np.median(support.centre[support.seen, 0]))
    bottom = float(np.flatnonzero(np.median(support.mask, 0).max(1) > 0.5).max(initial=0))
    best = [_spread(path, np.array([x, bottom + dy])) for dy in np.arange(-3.0, 3.5, 0.5)]
    return np.array([x, bottom - 3.0 + 0.5 * int(np.argmin(best))])


def _spread(path: Floats, pivot: Floats) -> float:
    rod = np.hypot(*(path - pivot).T)
    return float(np.median(np.abs(rod - np.median(rod))))
