"""Compact things in smeared clips: what is the thing, and what its halo, its ghost or a blend."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.physics.detectors.clip import Clip, Floats
from benchmarks.physics.detectors.holes import filled
from benchmarks.physics.detectors.stage import Stage

Mask = NDArray[np.bool_]
HALF = 0.45
"""The share of a colour from which a pixel is that colour's rather than the scenery's."""
RING = 2.5
"""Pixels round a disc that are to be unlike it."""
NEARLY, SHARP = 0.8, 1.5
"""The share of a fit that is nearly as good, and as far as a sharp disc has one, in pixels."""
_CROSS = ndimage.generate_binary_structure(2, 1)[None]


class Looks(NamedTuple):
    """What a thing was found to be: its colour in Lab and the radius of a disc of its area."""

    colour: tuple[float, float, float]
    radius: float


def blend(clip: Clip, stage: Stage, looks: Looks | None) -> Floats:
    """The share `(T, H, W)` of a known colour in pixels that it makes up with the scenery."""
    if looks is None:
        return np.zeros(clip.lab.shape[:3], np.float32)
    way = np.array(looks.colour, np.float32) - stage.picture
    off = clip.lab - stage.picture
    size = np.maximum(np.linalg.norm(way, axis=-1), 1.0)
    share = (off * way).sum(-1) / size**2
    aside = np.linalg.norm(off - share[..., None] * way, axis=-1)
    out: Floats = np.where(aside < HALF * size, np.clip(share, 0.0, 1.0), 0.0)
    return out


def modes(likeness: Floats, radius: float) -> Floats:
    """Where most of a compact thing is in each frame, x and y `(T, 2)`.

    The mode of its likeness `(T, H, W)`, found by mean shift (Y. Cheng, 1995) from the disc that
    holds most.
    """
    y, x = np.mgrid[: likeness.shape[1], : likeness.shape[2]] + 0.5
    held = ndimage.correlate(likeness, _disc(radius)[None], mode="constant")
    most = held.reshape(len(held), -1).argmax(1)
    spots = np.stack([x.ravel()[most], y.ravel()[most]], 1)
    for _ in range(5):
        inside = likeness * within(spots, radius + 1.0, likeness.shape)
        total = np.maximum(inside.sum((1, 2)), 1.0)
        spots = np.stack([(inside * x).sum((1, 2)), (inside * y).sum((1, 2))], 1) / total[:, None]
    return spots


def _disc(radius: float) -> Floats:
    reach = int(np.ceil(radius))
    far = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    return np.asarray(far <= radius, np.float32)


def places(likeness: Floats, radius: float) -> tuple[Floats, Floats]:
    """Where a disc fits best in each frame, x and y `(T, 2)` in parts of a pixel; how far above and
    below that it fits nearly as well, beyond what it does in a sharp frame, pixels `(T, 2)`.

    There the likeness `(T, H, W)` is high inside of it and low in the ring round it, so that a
    ghost at its side does not draw it away. One that it overlaps may: then it may be anywhere
    along the two.
    """
    reach = int(np.ceil(radius + RING)) + 1
    far = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    disc = np.clip(radius + 0.5 - far, 0.0, 1.0)
    ring = np.clip(np.minimum(far - radius, radius + RING + 1.0 - far), 0.0, 1.0)
    weights = disc / disc.sum() - ring / ring.sum()
    fits = ndimage.correlate(likeness, weights[None].astype(np.float32), mode="constant")
    out, doubt = np.empty((len(fits), 2)), np.empty((len(fits), 2))
    for t, fit in enumerate(fits):
        y, x = (int(k) for k in np.unravel_index(int(fit.argmax()), fit.shape))
        out[t] = x + 0.5 + _vertex(fit[y], x), y + 0.5 + _vertex(fit[:, x], y)
        column = fit[:, x]
        doubt[t] = _along(column[y::-1]), _along(column[y:])
    return out, doubt


def _along(values: Floats) -> float:
    """How many of some values are nearly as large as the first, without a break, beyond `SHARP`."""
    near = values >= NEARLY * values[0]
    run = len(near) if near.all() else int(near.argmin())
    return max(run - 1.0 - SHARP, 0.0)


def _vertex(values: Floats, k: int) -> float:
    """How far from the largest of some values, the k-th, the parabola through its neighbours has
    its vertex."""
    if not 0 < k < len(values) - 1:
        return 0.0
    before, top, after = (float(v) for v in values[k - 1 : k + 2])
    bend = before - 2.0 * top + after
    return 0.5 * (before - after) / bend if bend < 0.0 else 0.0


def within(spots: Floats, radius: float, shape: tuple[int, ...]) -> Mask:
    """Pixels of frames `shape` that are no farther than a radius from a spot of `(T, 2)` each."""
    y, x = np.mgrid[: shape[1], : shape[2]] + 0.5
    far = np.hypot(x - spots[:, 0, None, None], y - spots[:, 1, None, None])
    return np.asarray(far <= radius)


def around(spots: Floats, likeness: Floats, radius: float) -> Mask:
    """What of a compact thing lies round its place, or is another as plain: the rest is ghosts."""
    held = ndimage.correlate(likeness, _disc(radius)[None], mode="constant")
    plain = held > 0.7 * held.max((1, 2), keepdims=True)
    far = ~within(spots, 2.0 * radius, likeness.shape)
    return np.asarray(within(spots, 1.35 * radius + 1.5, likeness.shape) | far & plain)


def firm(stage: Stage, own: Mask) -> Mask:
    """What is half as plain as most of a thing or plainer, what that encloses, and a rim."""
    plain = own & (stage.contrast > HALF * strength(stage, own))
    whole = filled(plain)
    whole = ndimage.binary_opening(whole, np.ones((1, 2, 2), bool))
    return np.asarray(ndimage.binary_dilation(whole, _CROSS))


def strength(stage: Stage, own: Mask) -> Floats:
    """The usual contrast of a thing before the sky and before the ground, by row `(1, H, 1)`."""
    out = np.zeros((1, own.shape[1], 1), np.float32)
    for rows in (slice(0, stage.horizon), slice(stage.horizon, None)):
        values = stage.contrast[:, rows][own[:, rows]]
        out[:, rows] = np.median(values) if len(values) else 0.0
    return out
