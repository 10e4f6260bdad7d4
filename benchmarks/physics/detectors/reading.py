"""What detectors are given: the things of a clip, and what its caption asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors.clip import Clip, Floats
from benchmarks.physics.detectors.colours import Colour
from benchmarks.physics.detectors.parts import Part
from benchmarks.physics.detectors.stage import Stage


class Finding(NamedTuple):
    """One figure of a detector, larger is worse, and the frame of the reading that shows it."""

    value: float
    frame: int = 0


Findings = dict[str, Finding]
"""By name: a detector's sign, a point, and what was measured."""
ABSENT = Finding(float("inf"))
"""What a detector finds where the thing it judges is not there."""


@dataclass(frozen=True)
class Reading:
    """A clip read for a family.

    `parts` are its things by name, `strange (T,)` the area in pixels of what belongs to none of
    them, `expect` the slots of the caption: `{"colour": "red", "direction": "left"}`, and `haze`
    how unsharp the clip is.
    """

    family: str
    expect: Mapping[str, str]
    clip: Clip
    stage: Stage
    parts: dict[str, Part]
    strange: Floats
    haze: float = 0.0

    @property
    def time(self) -> Floats:
        """Times `(T,)` of the frames in eighths of a second."""
        return self.clip.time

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.clip.lab.shape[1], self.clip.lab.shape[2]

    def colour(self, slot: str) -> Colour | None:
        """The colour that a slot of the caption names, if it names one."""
        return Colour[self.expect[slot].upper()] if slot in self.expect else None


def worst(values: Floats, frames: NDArray[np.int64] | None = None) -> Finding:
    """The largest of some values and its frame; nothing to judge is 0."""
    if len(values) == 0:
        return Finding(0.0)
    k = int(np.nanargmax(values))
    return Finding(float(values[k]), k if frames is None else int(frames[k]))


def at_border(part: Part) -> NDArray[np.bool_]:
    """Whether the border of the frame cuts a thing `(T,)`: three pixels along it are its own."""
    mask = part.mask > 0.5
    edges = np.stack(
        [side.sum(1) for side in (mask[:, 0], mask[:, -1], mask[..., 0], mask[..., -1])]
    )
    return np.asarray((edges >= 3).any(0))


def usual_area(part: Part) -> float:
    """The area that a thing has when it is whole: the median away from the border."""
    whole = part.seen & ~at_border(part)
    chosen = part.area[whole] if whole.sum() >= 3 else part.area[part.seen]
    return float(np.median(chosen)) if len(chosen) else 0.0
