"""Cats with a leg too many or too few, crossed legs, and legs that do not walk."""

import numpy as np

from world.corruptions.corruption import Corruption, length, whole, with_change, with_state
from world.scene import Scene

STRETCHED = np.array(((7.2, 1.5), (13.4, 8.2)))  # hip and foot of a third front leg, cat units


def leg_extra(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """For `value` frames another front leg is stretched out before the others.

    The frames are the ones in which the legs are furthest apart.
    """
    state, frames = scene.state, int(value)
    hip, foot = STRETCHED * np.array((state["facing"], 1.0)) * state["unit"]
    if state["upright"]:
        hip = hip * (0.3, 1.0)
    more = {"hips": state["body"] + hip, "feet": state["body"] + foot}
    legs = {name: np.concatenate([state[name], place[:, None]], 1) for name, place in more.items()}
    changed = {**legs, "near": np.append(state["near"], 1.0)}
    changed["stance"] = np.pad(state["stance"], ((0, 0), (0, 1)))
    x = np.sort(state["feet"][..., 0], axis=1)
    spread = np.diff(x, axis=1).min(axis=1)
    sums = np.convolve(spread, np.ones(frames), "valid")
    first = 1 + int(np.argmax(sums[1:-1])) if len(sums) > 2 else 0
    return with_change(scene, first, first + frames, changed)


def leg_missing(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The cat has `value` legs fewer from the start: a front leg on the viewer's side goes first.

    Raises `ValueError` if no leg would be left.
    """
    legs_there = len(scene.state["near"])
    if value >= legs_there:
        raise ValueError(
            f"value of 'leg_missing' is {value:g}; a cat with {legs_there} legs can miss "
            f"{legs_there - 1} at most"
        )
    kept = np.delete(np.arange(legs_there), [1, 0, 3][: int(value)])
    legs = {name: scene.state[name][:, kept] for name in ("hips", "feet", "stance")}
    return with_state(scene, near=scene.state["near"][kept], **legs)


def legs_swapped(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """For `value` frames the legs of a side are crossed: each foot is where the other should be.

    Raises `ValueError` for a cat with two legs.
    """
    if scene.slots["legs"] == "two":
        raise ValueError("'legs_swapped' needs a cat with four legs; this one has two")
    order, frames = [1, 0, 3, 2], int(value)
    first = int(rng.integers(3, length(scene) - frames - 1))
    changed = {name: scene.state[name][:, order] for name in ("feet", "stance")}
    return with_change(scene, first, first + frames, changed)


def glide(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The legs stand still in the pose of the first frame while the cat moves on."""
    body = scene.state["body"]
    legs = {}
    for name in ("hips", "feet"):
        place = scene.state[name]
        legs[name] = place[:1] + (body - body[0])[:, None] * (1.0, 0.0)
    return with_state(scene, stance=np.repeat(scene.state["stance"][:1], len(body), axis=0), **legs)


CORRUPTIONS = {
    "leg_extra": Corruption(leg_extra, "frames", 4, 1, 14, ("walk",)),
    "leg_missing": Corruption(leg_missing, "legs", 1, 1, 3, ("walk",)),
    "legs_swapped": Corruption(legs_swapped, "frames", 4, 1, 10, ("walk",)),
    "glide": whole(glide, "walk"),
}
