"""O3: a thing keeps its size, its colour and its shape."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR
from benchmarks.physics.detectors.parts import Part
from benchmarks.physics.detectors.permanence import away
from benchmarks.physics.detectors.reading import (
    ABSENT,
    Finding,
    Findings,
    Reading,
    worst,
)


def immutability(
    reading: Reading, *names: str, rigid: bool = True, hidden: NDArray[np.bool_] | None = None
) -> Findings:
    """The largest change of area (share), colour (Lab) and, of rigid things, outline (share).

    An area has changed if both the whole and the part of its own colour have: before another
    ground an outline may be seen or not.
    """
    findings: Findings = {}
    for name in names:
        thing = reading.parts[name]
        whole = thing.seen & ~away(thing)
        if hidden is not None:
            whole &= ~hidden
        if whole.sum() < 3:
            whole = thing.seen  # the border cuts it all the time: it may still not change
        if whole.sum() < 3:
            return {"O3.area": ABSENT}
        at = np.flatnonzero(whole)
        ratio, body = (compared(sizes, at) for sizes in (thing.area, thing.body))
        step = worst(np.abs(common(stepped(ratio[at]), stepped(body[at]))), at)
        ratio = common(ratio, body)
        # What the border cuts may look smaller, but never larger.
        area = np.where(whole, np.abs(ratio), np.maximum(ratio, 0.0))
        if hidden is not None:  # a little of what hides it may be taken for its own
            area = np.where(hidden, np.maximum(ratio - 0.3, 0.0), area)
        if reading.haze > CLEAR:  # a smear may make it larger for a frame
            area = ndimage.median_filter(area, 3)
        found = {"O3.area": max(worst(area), step), "O3.colour": worst(thing.drift[at], at)}
        if rigid:
            width, height, fill = outline(thing)
            change = np.abs(fill[at] - np.median(fill[at]))
            form = np.log(width[at] / height[at])
            found["O3.shape"] = worst(change + 0.5 * np.abs(form - np.median(form)), at)
        for key, finding in found.items():
            findings[key] = max(findings.get(key, Finding(0.0)), finding)
    return findings


def compared(sizes: Floats, at: NDArray[np.int64]) -> Floats:
    """Sizes `(T,)` as logarithms of their ratio to the usual one in some frames.

    The lower median: of two sizes that are as common one is usual, and not what lies between.
    """
    usual = float(np.quantile(sizes[at], 0.5, method="lower"))
    return np.asarray(np.log(np.maximum(sizes, 1.0) / max(usual, 1.0)))


def common(whole: Floats, body: Floats) -> Floats:
    """What two changes have in common: the smaller one, none where they are opposite."""
    smaller = np.sign(whole) * np.minimum(np.abs(whole), np.abs(body))
    return np.where(whole * body > 0, smaller, 0.0)


def stepped(ratio: Floats, least: int = 3) -> Floats:
    """By how much the median from each frame on is above the one before it, `(N,)`; 0 where fewer
    than `least` frames are on either side.

    Something that grows for good, and is seen cut in between, has no size that is usual.
    """
    out = np.zeros(len(ratio))
    for k in range(least, len(ratio) - least + 1):
        out[k] = np.median(ratio[k:]) - np.median(ratio[:k])
    return out


def outline(thing: Part) -> tuple[Floats, Floats, Floats]:
    """Width and height in pixels, and the share of their rectangle that is filled, `(T,)` each.

    A disc fills 0.785 of its rectangle, an upright square all of it.
    """
    width = thing.mask.sum(2).max(1).astype(np.float64)
    height = thing.mask.sum(1).max(1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return width, height, thing.area / (width * height)
