"""What a corruption is: one law of the world broken in a known way and by a known amount."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from world.palette import Floats
from world.scene import Scene, State

Apply = Callable[[Scene, float, np.random.Generator], Scene]
COUNTED = ("frames", "bites", "legs", "letters")
"""Units of which there are whole numbers only."""
WHOLE = "whole"
"""The unit of what is either there or not: its value is 1."""


@dataclass(frozen=True)
class Corruption:
    """A function on scenes with the unit of its value, what may be asked, and where it applies.

    `nominal` is the value at which a person sees at once that something is wrong; `lowest` and
    `highest` are what may be asked for.
    """

    apply: Apply
    unit: str
    nominal: float
    lowest: float
    highest: float
    families: tuple[str, ...]


def whole(apply: Apply, *families: str) -> Corruption:
    """A corruption that is either there or not."""
    return Corruption(apply, WHOLE, 1, 1, 1, families)


def with_state(scene: Scene, **changed: Floats) -> Scene:
    """The scene with some of its state replaced."""
    return replace(scene, state=scene.state | changed)


def with_change(scene: Scene, first: int, end: int, changed: State) -> Scene:
    """The scene with some of its state replaced from frame `first` to the one before `end`."""
    return replace(scene, changes=(*scene.changes, (first, end, changed)))


def length(scene: Scene) -> int:
    """The number of frames of a scene."""
    return int(scene.state["frames"])


def sometime(scene: Scene, rng: np.random.Generator) -> int:
    """A frame at which something may go wrong: with a third of the clip before it, and after."""
    frames = length(scene)
    return int(rng.integers(frames // 3, 2 * frames // 3 + 1))
