"""Whether a clip can be judged at all."""

import numpy as np

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.haze import THICK
from benchmarks.physics.detectors.occlusion import in_view
from benchmarks.physics.detectors.permanence import away
from benchmarks.physics.detectors.reading import Reading

OFTEN_HIDDEN = frozenset({"puddle", "trunk"})
"""Things that a clip may do without for a while."""
KNOWN = 3
"""Frames in which a thing must be seen to know what it is."""
SHARE = 0.5
"""The share of the frames in which a thing is in view that it must be found in."""
PLAIN = 11.0
"""Lab contrast that a thing must have: three times what a wavelet of compression has."""


def unreadable(reading: Reading) -> str:
    """Why nothing can be said of a clip, or an empty string: it is hazy all over, or a thing is as
    good as never seen or hardly stands out."""
    if reading.haze > THICK:
        return f"the haze round things is {reading.haze:.1f} in Lab; allowed is up to {THICK:.0f}"
    for name, thing in reading.parts.items():
        if name in OFTEN_HIDDEN:
            continue
        if thing.seen.sum() < KNOWN:
            return f"the {name} is seen in {thing.seen.sum()} frames; {KNOWN} are needed"
        inside = reading.stage.contrast[thing.mask > 0.9]
        plain = float(np.median(inside)) if len(inside) else 0.0
        if plain < PLAIN:
            return f"the {name} stands out by {plain:.1f} in Lab; {PLAIN:.0f} are needed"
    return ""


def unmeasurable(reading: Reading) -> str:
    """Why a clip is not seen often enough to judge it, or an empty string.

    Every thing must be found in `SHARE` of the frames in which it is not out at the border or
    behind a wall. Where the laws say that it vanished, that is no matter of measuring.
    """
    for name, thing in reading.parts.items():
        if name in OFTEN_HIDDEN:
            continue
        found = float(thing.seen[_due(reading, name) | thing.seen].mean())
        if found < SHARE:
            return f"the {name} is seen in {found:.0%} of the frames; {SHARE:.0%} are needed"
    return ""


def _due(reading: Reading, name: str) -> Floats:
    """Frames `(T,)` in which a thing should be in view."""
    due = ~away(reading.parts[name])
    return due & in_view(reading) if name == "ball" and "wall" in reading.parts else due
