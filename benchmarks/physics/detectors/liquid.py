"""F1: water is neither made nor lost, runs down, and stands level."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.stats import theilslopes

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.parts import pieces
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst
from benchmarks.physics.detectors.sides import SIGN


@dataclass(frozen=True)
class Water:
    """How much of each pixel is water `(T, H, W)`, and the cup that is filled: rows and columns."""

    share: Floats
    top: int
    left: int
    right: int

    def filled(self) -> Floats:
        """Water in the filled cup, pixels `(T,)`."""
        out: Floats = self.share[:, self.top - 2 :, self.left : self.right].sum((1, 2))
        return out


def shares(reading: Reading, name: str) -> Floats:
    """How much of each pixel is water: between its colour and that of what is around it."""
    hard, lab = reading.parts[name].mask > 0.5, reading.clip.lab
    inner = ndimage.binary_erosion(hard, np.ones((1, 3, 3), bool))
    zone = ndimage.binary_dilation(hard, np.ones((1, 3, 3), bool))
    usual = np.median(lab[inner] if inner.any() else lab[hard], axis=0)
    dry = (~zone).astype(np.float32)
    weight = ndimage.uniform_filter(dry, (0, 5, 5))
    around = np.stack([ndimage.uniform_filter(lab[..., k] * dry, (0, 5, 5)) for k in range(3)], -1)
    around /= np.maximum(weight, 1e-3)[..., None]
    way = usual - around
    part = ((lab - around) * way).sum(-1) / np.maximum((way * way).sum(-1), 1.0)
    out = np.where(zone & (weight > 0.02), np.clip(part, 0.0, 1.0), hard)
    return np.where(inner, 1.0, out).astype(np.float64)


def water(reading: Reading, name: str) -> Water | None:
    """Find the cup that holds most at the end; None where there is no water."""
    if not (reading.parts[name].mask > 0.5).any():
        return None
    share = shares(reading, name)
    last = np.median(share[-3:], axis=0) > 0.5
    labels, sizes = pieces(last[None])
    if len(sizes) < 2 or share.sum() < 10 * len(share):
        return None
    rows, columns = np.nonzero(labels[0] == 1 + int(sizes[1:].argmax()))
    return Water(share, int(rows.min()), int(columns.min()) - 1, int(columns.max()) + 2)


def pouring(reading: Reading, name: str = "water") -> Findings:
    """F1 in shares of all the water: what came or went, ran back, never ran; degrees of tilt."""
    seen = water(reading, name)
    if seen is None:
        return {"F1.total": ABSENT}
    total = seen.share.sum((1, 2))
    start = float(np.median(total[:3]))
    if start < 10.0:
        return {"F1.total": ABSENT}
    filled = seen.filled()
    rest = total - filled
    found = {
        "F1.total": Finding(abs(float(np.median(total[-3:])) / start - 1.0), len(total) - 1),
        "F1.between": worst(np.abs(total / start - 1.0)),
        "F1.falls": worst((np.maximum.accumulate(filled) - filled) / start),
        "F1.rises": worst((rest - np.minimum.accumulate(rest)) / start),
        "F1.poured": Finding(float(filled[:2].mean() - filled[-2:].mean()) / start),
        "F1.level": tilt(seen, filled),
        "F1.stream": stream(seen),
    }
    if "direction" in reading.expect:
        x = np.arange(seen.share.shape[2]) + 0.5
        source = float((seen.share[:2].sum((0, 1)) * x).sum() / max(seen.share[:2].sum(), 1.0))
        side = SIGN[reading.expect["direction"]]
        found["S1.side"] = Finding(float(side * (source - 0.5 * (seen.left + seen.right)) <= 0.0))
    return found


def tilt(seen: Water, filled: Floats) -> Finding:
    """The steepest the surface in the filled cup stands, degrees, in frames where it is deep."""
    columns = slice(seen.left + 3, seen.right - 3)
    x = np.arange(seen.left + 3, seen.right - 3, dtype=np.float64)
    steep = np.zeros(len(filled))
    if len(x) < 5:  # what was filled is no cup
        return worst(steep)
    for t in np.flatnonzero(filled > 0.45 * filled.max()):
        height = seen.share[t, seen.top - 2 :, columns].sum(0)
        falling = (seen.share[t, seen.top - 4 : seen.top - 1, columns] > 0.2).any(0)
        calm = ~ndimage.binary_dilation(falling) & (height < np.median(height) + 2.5)
        if calm.sum() >= 5:
            steep[t] = abs(np.degrees(np.arctan(theilslopes(height[calm], x[calm]).slope)))
    return worst(steep)


def stream(seen: Water) -> Finding:
    """How much sooner water is seen low in the stream than high in it, in frames: it should come
    later there, and end later."""
    wet = seen.share > 0.5
    columns = wet[:, : seen.top, seen.left : seen.right].sum((0, 1))
    if columns.max(initial=0) == 0:
        return Finding(0.0)
    x = seen.left + int(columns.argmax())
    line = wet[:, :, x]
    rows = np.flatnonzero(line[:, : seen.top].any(0))
    rows = rows[rows >= rows.max() - 12] if len(rows) else rows
    if len(rows) < 4:
        return Finding(0.0)
    on = np.array([int(line[:, y].argmax()) for y in rows], np.float64)
    off = np.array([len(line) - int(line[::-1, y].argmax()) for y in rows], np.float64)
    third = max(1, len(rows) // 3)
    late = [float(v[-third:].mean() - v[:third].mean()) for v in (on, off)]
    return Finding(-0.5 * (late[0] + late[1]), int(on.min()))
