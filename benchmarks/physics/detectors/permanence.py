"""O1: things neither vanish nor double, and nothing comes from nowhere."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import CLEAR
from benchmarks.physics.detectors.parts import Part, pieces, solid
from benchmarks.physics.detectors.reading import (
    ABSENT,
    Findings,
    Reading,
    at_border,
    usual_area,
    worst,
)
from benchmarks.physics.detectors.smears import HALF


def permanence(
    reading: Reading, *names: str, due: Floats | float = 1.0, alone: bool = True
) -> Findings:
    """How much of the things is missing, doubled or strange, in frames' worth of a whole thing.

    `due (T,)` is the share of them that nothing hides; at the border they may always be out of
    sight. Unless they are `alone`, there may be other things beside them.
    """
    findings: Findings = {}
    sizes = [usual_area(reading.parts[name]) for name in names]
    if min(sizes) == 0.0:
        return {"O1.missing": ABSENT}
    for name, size in zip(names, sizes, strict=True):
        thing = reading.parts[name]
        out = away(thing)
        lost = np.where(out, 0.0, np.clip(due - thing.area / size, 0.0, 1.0))
        lost = np.where(lost > 0.35, lost, 0.0)
        keep(findings, "O1.missing", lost)
        whole = ~out & (np.asarray(due) == 1.0)
        keep(findings, "O1.double", np.where(whole, np.maximum(thing.copies - 1.0, 0.0), 0.0))
    if alone:
        keep(findings, "O1.stranger", np.asarray(reading.strange / min(sizes), np.float64))
    if alone and reading.haze <= CLEAR:  # in a smear are ghosts
        keep(findings, "O1.stray", strays(reading, 0.03 * min(sizes)))
    return findings


def strays(reading: Reading, least: float) -> Floats:
    """Frames `(T,)`, 1 or 0, in which a plain piece of `least` pixels hangs on to nothing.

    A piece is plain that stands out about half as much as the faintest thing; a thing is its pieces
    of like size.
    """
    own = np.zeros(reading.stage.contrast.shape, bool)
    usual = []
    for thing in reading.parts.values():
        inside, faint = thing.mask > 0.5, thing.mask > 0.2  # what a faint pixel joins is one
        labels, _ = pieces(ndimage.binary_closing(faint, np.ones((1, 2, 2), bool)))
        sizes = np.bincount(labels[inside], minlength=int(labels.max()) + 1)
        sizes[0] = 0
        most = sizes[labels].max((1, 2), initial=0)
        own |= faint & (sizes[labels] >= 0.3 * most[:, None, None]) & (labels > 0)
        usual.append(np.median(reading.stage.contrast[inside]) if inside.any() else np.inf)
    plain = solid(reading.stage) & (reading.stage.contrast > HALF * min(usual))
    near = ndimage.binary_dilation(own, np.ones((1, 3, 3), bool))
    left, sizes = pieces(plain)
    sizes[np.unique(left[near])] = 0
    sizes[0] = 0
    found: Floats = (sizes[left].max((1, 2)) >= max(least, 8.0)).astype(np.float64)
    return found


def keep(findings: Findings, name: str, by_frame: Floats) -> None:
    """Record the sum over frames where it is the worst of its name."""
    total = worst(by_frame)._replace(value=float(by_frame.sum()))
    if name not in findings or findings[name].value < total.value:
        findings[name] = total


def away(thing: Part) -> NDArray[np.bool_]:
    """Frames `(T,)` in which a thing reaches over the border, or is out of sight between such."""
    out = thing.seen & at_border(thing)
    labels, count = ndimage.label(~thing.seen)
    for run in (np.flatnonzero(labels == k + 1) for k in range(count)):
        first, last = int(run[0]), int(run[-1])
        before, after = first == 0 or out[first - 1], last == len(out) - 1 or out[last + 1]
        whole = first == 0 and last == len(out) - 1
        out[first : last + 1] = before and after and not whole
    return out
