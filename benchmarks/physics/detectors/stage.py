"""What stands still behind the actors: bands of sky and ground; and what stands out from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.physics.detectors.clip import Clip, Floats, distance

FAINT = 12.0
"""Lab distance from the band of sky or ground under which a still ornament is scenery."""

DEEP, DEEPEST = 0.45, 0.8
"""Shares of its light that the ground may lose to a soft shadow, and to one that a lamp casts."""


@dataclass(frozen=True)
class Stage:
    """`picture (H, W, 3)` in Lab, `horizon` its row, `contrast (T, H, W)` the Lab distance to it.

    `shadow (T, H, W)` is the share of light that the ground lost where it is only darker, `deep`
    the share where it lost so much that a dark thing may look the same.
    """

    picture: Floats
    horizon: int
    contrast: Floats
    shadow: Floats
    deep: Floats


def look(clip: Clip) -> Stage:
    """Find the scenery of a clip: what rows have in common, and faint things that stay."""
    still = np.median(clip.lab, axis=0)
    rows, horizon = _bands(still)
    faint = distance(still, rows[:, None]) < FAINT
    faint &= (distance(clip.lab, still) < FAINT / 3).mean(0) > 0.7
    faint &= ~_edges(still, rows)
    picture = np.where(faint[..., None], still, rows[:, None]).astype(np.float32)
    contrast = distance(clip.lab, picture)
    return Stage(picture, horizon, contrast, *_shadow(clip.lab, picture, horizon))


def _edges(still: Floats, rows: Floats) -> NDArray[np.bool_]:
    """The rims `(H, W)` of plain things that stand still: though faint, they are no ornament."""
    plain = distance(still, rows[:, None]) > FAINT
    plain = ndimage.binary_opening(plain, np.ones((3, 3), bool))
    return np.asarray(ndimage.binary_dilation(plain, np.ones((3, 3), bool)))


def _bands(still: Floats) -> tuple[Floats, int]:
    """The colour of each row `(H, 3)` without its actors, and the row where the ground begins.

    A band is the straight line in Lab that most pixels of its rows lie on.
    """
    height = len(still)
    found = [_crowds(row) for row in still]
    values, sizes = (np.stack(items) for items in zip(*found, strict=True))
    horizon = _horizon(still, _line(values[: height // 2], sizes[: height // 2]), values[-3, 0])
    rows = np.empty((height, 3), np.float32)
    for band in (slice(0, horizon - 1), slice(horizon + 2, height)):
        rows[band] = _line(values[band], sizes[band])
    above, below = rows[horizon - 2], rows[horizon + 2]
    for y in range(horizon - 1, horizon + 2):
        rows[y] = _between(values[y], above, below)
    # A row that blends the two is that of the nearer one.
    blend = rows[horizon]
    return rows, horizon + int(np.linalg.norm(blend - above) < np.linalg.norm(blend - below))


def _horizon(still: Floats, sky: Floats, ground: Floats) -> int:
    """The row that best parts what looks like the upper sky from what looks like the ground."""
    height, half = len(still), len(sky)
    slope = (sky[-1] - sky[half // 2]) / (half - 1 - half // 2)
    down = sky[-1] + slope * np.arange(1, height - half + 1)[:, None]
    above = distance(still, np.concatenate([sky, down])[:, None]) < 6.0
    below = distance(still, ground) < 9.0
    balance = np.cumsum(above.sum(1)) - np.cumsum(below.sum(1))
    low, high = int(0.45 * height), int(0.92 * height)
    return low + int(balance[low:high].argmax()) + 1


def _crowds(row: Floats, count: int = 3) -> tuple[Floats, Floats]:
    """The `count` commonest colours `(count, 3)` of a row `(W, 3)` and how many have each."""
    near = distance(row[:, None], row[None]) < 4.0
    free = np.ones(len(row), bool)
    values, sizes = np.zeros((count, 3), np.float32), np.zeros(count, np.float32)
    for k in range(count):
        crowd = near[(near & free).sum(1).argmax()] & free
        if crowd.any():
            values[k], sizes[k] = np.median(row[crowd], axis=0), crowd.sum()
        free &= ~crowd
    return values, sizes


def _line(values: Floats, sizes: Floats) -> Floats:
    """The line through crowds `(H, K, 3)` of two rows that most pixels support, `(H, 3)`.

    A row whose crowd lies near the line keeps the crowd's own colour.
    """
    rows = len(values)
    ends = np.unique(np.linspace(0, max(1, rows // 3), 7).astype(int))
    first, last = values[ends, :2].reshape(-1, 3), values[rows - 1 - ends, :2].reshape(-1, 3)
    y0, y1 = np.repeat(ends, 2), np.repeat(rows - 1 - ends, 2)
    slope = (last[None] - first[:, None]) / np.maximum(y1[None] - y0[:, None], 1)[..., None]
    start = (first[:, None] - slope * y0[:, None, None]).reshape(-1, 1, 3)
    lines = start + slope.reshape(-1, 1, 3) * np.arange(rows)[None, :, None]
    off = distance(lines[:, :, None], values[None])
    support = np.where(off < 5.0, sizes[None], 0.0).max(2).sum(1)
    best = int(support.argmax())
    nearest = off[best].argmin(1)
    own = values[np.arange(rows), nearest]
    close = off[best].min(1) < 5.0
    line: Floats = np.where(close[:, None], own, lines[best]).astype(np.float32)
    return line


def _between(values: Floats, above: Floats, below: Floats) -> Floats:
    """Of some colours `(K, 3)` the one nearest to the blends of two, or else their middle."""
    way = below - above
    share = np.clip(((values - above) @ way) / max(float(way @ way), 1e-6), 0.0, 1.0)
    off = np.linalg.norm(above + share[:, None] * way - values, axis=1)
    k = int(off.argmin())
    return values[k] if off[k] < 8.0 else 0.5 * (above + below)


def _shadow(lab: Floats, picture: Floats, horizon: int) -> tuple[Floats, Floats]:
    """How much darker the ground is where its hue has stayed: 0 to 1, and 0 for what is no shadow;
    that of soft shadows, and that of deep ones.

    A shadow pulls the colour towards black along a line in Lab, which passes a little off the
    origin because dim light is bluish.
    """
    ground, seen = picture[horizon - 1 :], lab[:, horizon - 1 :]
    axis = ground - np.array([0.0, 0.0, -6.0], np.float32)
    lost = ((ground - seen) * axis).sum(-1) / (axis * axis).sum(-1)
    off = distance(ground - lost[..., None] * axis, seen)
    only = (lost > 0.02) & (lost < DEEP) & (off < 4.0 + 8.0 * lost)
    shadow, deep = np.zeros(lab.shape[:3], np.float32), np.zeros(lab.shape[:3], np.float32)
    shadow[:, horizon - 1 :] = np.where(only, lost, 0.0)
    deep[:, horizon - 1 :] = np.where((lost >= DEEP) & (lost < DEEPEST) & (off < 4.0), lost, 0.0)
    deep[:, : horizon + 1] = 0.0  # rows of the horizon are blends of two bands
    return shadow, deep
