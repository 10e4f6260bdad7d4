"""R1: a shadow lies away from the light and is as long as the light is low."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst
from benchmarks.physics.detectors.sides import SIGN

BRIGHT, YELLOW = 70.0, 8.0
"""Lightness of a light, and by how much it is yellower than the scenery, Lab."""
DARK = 40.0
"""Lightness under which a lamp's shade is dark."""
ABOVE, BELOW = 1.1, 2.6
"""Pixels to the bulb from the middle of the glow, up, and from that of the shade, down."""


@dataclass(frozen=True)
class Cast:
    """The lamp `(T, 2)`, the box's `left`, `right`, `top` and `floor`, and how far to either side
    of it the floor is dark, `reach (T, 2)`, in pixels."""

    lamp: Floats
    left: float
    right: float
    top: float
    floor: float
    reach: Floats


def cast(reading: Reading, box: str) -> Cast | None:
    """Find the lamp, the box and its shadow; None where one of them is missing."""
    thing = np.median(reading.parts[box].mask, axis=0)
    if thing.sum() < 30:
        return None
    left, right = _ends(thing.sum(0))
    top, floor = _ends(thing.sum(1), dark_before=False)
    lamp = _lamp(reading, int(top))
    if np.isnan(lamp[:, 0]).mean() > 0.2:
        return None
    reach = _reach(reading, int(left), int(right) + 1, int(floor))
    return Cast(lamp, float(left), float(right), float(top), float(floor), reach)


def _ends(sizes: Floats, dark_before: bool = True) -> tuple[float, float]:
    """Where a box begins and ends, from how much of it is in each row or column; a bit of its
    shadow may hang on to it, above it none."""
    share = np.minimum(sizes / np.quantile(sizes[sizes > 0.5], 0.75), 1.0)
    inside = np.flatnonzero(share > 0.7)
    first, last = int(inside[0]), int(inside[-1])
    before, after = share[first - 1] if first else 0.0, np.append(share, 0.0)[last + 1]
    # What is less than half of a row next to it is its soft edge, what is more may be the shadow.
    before *= before < 0.5 or not dark_before
    return first - float(before), last + 1 + float(after * (after < 0.5))


def _lamp(reading: Reading, top: int) -> Floats:
    """The light above a row in each frame, `(T, 2)`; before a sky as yellow as itself it is found
    by its shade."""
    lab, still = reading.clip.lab[:, : max(top - 2, 1)], reading.stage.picture[: max(top - 2, 1)]
    glow = np.where(lab[..., 0] > BRIGHT, np.maximum(lab[..., 2] - still[..., 2], 0.0), 0.0)
    most = glow.max((1, 2), keepdims=True)
    if np.median(most) > YELLOW:
        return _middle(np.where(glow > 0.5 * most, glow, 0.0)) - (0.0, ABOVE)
    dark = (lab[..., 0] < DARK) & (np.hypot(lab[..., 1], lab[..., 2]) < 20.0)
    dark &= reading.stage.contrast[:, : dark.shape[1]] > 8.0
    return _middle(ndimage.binary_opening(dark, np.ones((1, 1, 4), bool))) + (0.0, BELOW)


def _middle(weight: Floats) -> Floats:
    """The middle x, y `(T, 2)` of weights `(T, H, W)`; NaN where they are as good as nothing."""
    y, x = np.mgrid[: weight.shape[1], : weight.shape[2]] + 0.5
    total = weight.sum((1, 2), dtype=np.float64)
    total = np.where(total >= 4.0, total, np.nan)
    return np.stack([(weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total], 1)


def _reach(reading: Reading, left: int, right: int, floor: int) -> Floats:
    """How far the floor is dark beside the box, to the left and to the right, `(T, 2)`."""
    band = slice(floor - 2, min(floor + 2, reading.size[0]))
    ground = reading.stage.picture[band, :, 0]
    lost = 1.0 - reading.clip.lab[:, band, :, 0] / np.maximum(ground, 1.0)
    lost = lost.mean(1)
    full = np.clip(np.quantile(lost, 0.97, axis=1), 0.25, 0.8)
    dark = np.clip(lost / full[:, None], 0.0, 1.0)
    sides = (dark[:, :left][:, ::-1], dark[:, right:])
    return np.stack([[_run(row) for row in side] for side in sides], 1)


def _run(dark: Floats) -> float:
    """The length of the dark run that begins a row, to a part of a pixel.

    The first pixel may be the edge of the box, and counts as the one after it.
    """
    dark = np.concatenate([np.maximum(dark[:1], dark[1:2]), dark[1:]])
    bright = np.flatnonzero(dark < 0.4)
    end = int(bright[0]) if len(bright) else len(dark)
    return float(end + (dark[end] if end < len(dark) else 0.0)) if end else 0.0


def lag(t: Floats, away: Floats, over: Floats, scale: float) -> Finding:
    """By how many frames the shadow's length comes after the ray's, or before it.

    A length late by d is that of the ray less d times its slope. The ray is `scale` through the
    lamp's height `over` the box; both are smoothed over time, the height first, because an error
    of a low lamp's is one of many pixels of its ray.
    """
    if len(t) < 9:
        return Finding(0.0)
    height = np.polyval(np.polyfit(t - t.mean(), over, 4), t - t.mean())
    smooth = np.polyfit(t - t.mean(), scale / np.maximum(height, 1.0), 4)
    length, slope = (np.polyval(p, t - t.mean()) for p in (smooth, np.polyder(smooth)))
    basis = np.stack([np.ones_like(t), length, slope], 1)
    _, gain, late = np.linalg.lstsq(basis, away)[0]
    return Finding(abs(float(late)) / max(abs(float(gain)), 0.3))


def casting(reading: Reading, box: str = "box") -> Findings:
    """R1: frames with the shadow towards the lamp, and how far its tip is from the ray."""
    seen = cast(reading, box)
    if seen is None:
        return {"R1.side": ABSENT}
    lamp = float(np.nanmedian(seen.lamp[:, 0]))
    side = 1 if lamp < 0.5 * (seen.left + seen.right) else 0
    away, toward = seen.reach[:, side], seen.reach[:, 1 - side]
    wrong = toward > away
    height = seen.floor - seen.top
    far = seen.right if side else seen.left
    over = np.maximum(seen.floor - seen.lamp[:, 1] - height, 1.0)
    ray = np.abs(far - seen.lamp[:, 0]) * height / over
    known = ~np.isnan(ray)
    off = np.abs(away - ray)[known] / (2.0 + 0.08 * ray[known])
    found = {
        "R1.side": Finding(float(wrong.mean()), int(wrong.argmax())),
        "R1.length": worst(off, np.flatnonzero(known)),
        "R1.lag": lag(reading.time[known], away[known], over[known], abs(far - lamp) * height),
    }
    if "direction" in reading.expect:
        middle = 0.5 * (seen.left + seen.right)
        found["S1.side"] = Finding(float(SIGN[reading.expect["direction"]] * (lamp - middle) <= 0))
    return found
