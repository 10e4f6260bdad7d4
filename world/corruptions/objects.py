"""Objects that do not stay what and where they are."""

from dataclasses import replace

import numpy as np

from world.corruptions.actors import ACTORS, AWAY, moved, path_of, room, size_of
from world.corruptions.corruption import Corruption, length, sometime, with_change, with_state
from world.palette import COLOURS
from world.scene import Scene


def vanish(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The object is gone for `value` frames, and back."""
    first = _window(scene, int(value), rng)
    return with_change(scene, first, first + int(value), moved(scene, AWAY))


def duplicate(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """For `value` frames there is a second object beside the first, where there is most room."""
    first = _window(scene, int(value), rng)
    during = slice(first, first + int(value))
    path, own = path_of(scene), 2.0 * size_of(scene)

    def space(shift: float) -> float:
        return min(float(room(scene, path + (shift, 0.0))[during].min()), abs(shift) - own)

    shift = max(np.linspace(-0.8, 0.8, 129).tolist(), key=space)
    twin = path + AWAY
    twin[during] = path[during] + (shift, 0.0)
    gone = {name: scene.state[name] + AWAY for name in ACTORS[scene.family].others}
    if scene.family == "pan":
        gone = {name: scene.state[name][..., :0, :] for name in ("far", "tufts")}
        gone |= {"far_size": np.empty((0, 2)), "tuft_size": np.empty(0)}
    return replace(scene, extras=({**gone, ACTORS[scene.family].paths[0]: twin},))


def teleport(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """From some frame on the object is `value` 64ths of the side away from where it should be."""
    path, visible = path_of(scene), room(scene, path_of(scene)) > 0.0
    choices = []
    for frame in range(3, length(scene) - 3):
        for shift in (value / 64, -value / 64):
            there = room(scene, path + (shift, 0.0))[frame:] > 0.0
            seen = visible[frame - 1] and there[0]
            choices.append((not seen, int((~there).sum()), frame, shift))
    best = min(choice[:2] for choice in choices)
    choices = [choice for choice in choices if choice[:2] == best]
    _, _, frame, shift = choices[rng.integers(len(choices))]
    by = np.zeros((length(scene), 2))
    by[frame:, 0] = shift
    return with_state(scene, **moved(scene, by))


def recolour(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """From some frame on the object has gone `value` (0 to 1) of the way to another colour."""
    taken = (scene.slots.get("colour"), scene.slots.get("other_colour"))
    names = [name for name in COLOURS if name not in taken]
    other = np.array(COLOURS[names[rng.integers(len(names))]])
    name = ACTORS[scene.family].colour
    colour = (1.0 - value) * scene.state[name] + value * other
    return with_change(scene, sometime(scene, rng), length(scene), {name: colour})


def resize(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """From some frame on the object is `value` per cent larger; what stands goes on standing."""
    actor = ACTORS[scene.family]
    size = scene.state[actor.size].copy()
    grown = size.flat[0] * value / 100.0
    size.flat[0] += grown
    changed = moved(scene, np.array((0.0, -grown))) if actor.grounded else {}
    changed[actor.size] = size
    return with_change(scene, sometime(scene, rng), length(scene), changed)


def _window(scene: Scene, frames: int, rng: np.random.Generator) -> int:
    """The first of some frames, neither the clip's first nor its last, with the object in view."""
    seen = room(scene, path_of(scene)) > 0.0
    starts = np.arange(2, length(scene) - frames - 1)
    counts = np.array([seen[start : start + frames].sum() for start in starts])
    best = starts[counts == counts.max()]
    return int(best[rng.integers(len(best))])


PLACED = (
    "drop",
    "roll",
    "hide",
    "hit",
    "order",
    "beside",
    "two_balls",
    "cat_and_ball",
    "pan",
)
"""Families whose actor has a size and room around it."""
CORRUPTIONS = {
    "vanish": Corruption(vanish, "frames", 4, 1, 10, ("walk", "bite", *PLACED)),
    "duplicate": Corruption(duplicate, "frames", 4, 1, 10, PLACED),
    "teleport": Corruption(teleport, "64ths of the side", 8, 1, 20, ("walk", *PLACED)),
    "recolour": Corruption(recolour, "share", 1, 0.1, 1, tuple(ACTORS)),
    "resize": Corruption(resize, "per cent", 25, -50, 50, ("swing", *PLACED)),
}
