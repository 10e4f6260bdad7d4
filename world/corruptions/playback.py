"""Corruptions of the frames themselves: played in another order, or as in a mirror."""

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from world.corruptions.corruption import Corruption, length, whole
from world.scene import Scene

Frames = NDArray[np.uint8]


def mirrored(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """Every frame is seen as in a mirror: left is right."""
    return replace(scene, retouches=(*scene.retouches, mirror))


def reversed_(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The last frame comes first."""
    return _in_order(scene, np.arange(length(scene))[::-1])


def frozen(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The clip stands still for its first `value` frames: for ever, if that is all there are."""
    t = np.arange(length(scene))
    return _in_order(scene, np.maximum(t - int(value) + 1, 0))


def shuffled(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The frames come in a random order."""
    return _in_order(scene, rng.permutation(length(scene)))


def looped(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The first `value` frames are played again and again."""
    return _in_order(scene, np.arange(length(scene)) % int(value))


def dropped(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """Every second frame is dropped, and the one before it is shown for twice as long."""
    return _in_order(scene, np.arange(length(scene)) // 2 * 2)


def _in_order(scene: Scene, order: NDArray[np.int64]) -> Scene:
    played = partial(play, order=tuple(order.tolist()))
    return replace(scene, retouches=(*scene.retouches, played))


def play(frames: Frames, order: tuple[int, ...]) -> Frames:
    """Frames `(T, H, W, 3)` in another order."""
    return np.ascontiguousarray(frames[list(order)])


def mirror(frames: Frames) -> Frames:
    """Frames `(T, H, W, 3)` with left and right exchanged."""
    return np.ascontiguousarray(frames[:, :, ::-1])


SIDED = (
    "bite",
    "walk",
    "beside",
    "roll",
    "pour",
    "order",
    "sign",
    "lamp",
    "two_balls",
    "cat_and_ball",
    "pan",
)
"""Families whose caption tells left from right, or that are read."""
MOVING = (
    "bite",
    "walk",
    "drop",
    "roll",
    "hit",
    "hide",
    "pour",
    "melt",
    "order",
    "two_balls",
    "cat_and_ball",
    "pan",
)
"""Families that get somewhere."""
CORRUPTIONS = {
    "mirrored": whole(mirrored, *SIDED),
    "reversed": whole(reversed_, *(family for family in MOVING if family != "hide")),
    "frozen": Corruption(frozen, "frames", 17, 2, 17, (*MOVING, "swing")),
    "shuffled": whole(shuffled, *MOVING, "swing"),
    "looped": Corruption(looped, "frames", 8, 2, 12, MOVING),
    "dropped": whole(
        dropped, "walk", "drop", "roll", "hit", "hide", "swing", "two_balls", "cat_and_ball", "pan"
    ),
}
