"""The object of each family that object corruptions are about."""

from dataclasses import dataclass

import numpy as np

from world.palette import Floats
from world.scene import Scene, State

AWAY = np.array((-3.0, -3.0))
"""Added to a place, it is far outside of the frame."""


@dataclass(frozen=True)
class Actor:
    """Names in a family's state of what belongs to one object.

    `paths` are the places that move with it, its middle first; `size` is its radius or half side;
    `others` are the places of what else is drawn. A `grounded` actor stands on a floor.
    """

    paths: tuple[str, ...]
    size: str = ""
    colour: str = "colour"
    others: tuple[str, ...] = ()
    grounded: bool = True


ACTORS = {
    "walk": Actor(("body", "hips", "feet")),
    "bite": Actor(("cookie", "bite_centre")),
    "drop": Actor(("ball",), "radius", grounded=False),
    "roll": Actor(("ball",), "radius"),
    "hide": Actor(("ball",), "radius", others=("wall",)),
    "hit": Actor(("mover",), "radii", others=("target",)),
    "swing": Actor(("bob",), "radius", grounded=False),
    "order": Actor(("ball",), "radius", others=("square",), grounded=False),
    "count": Actor(("balls",), "radii"),
    "beside": Actor(("square",), "half_side", others=("circle",)),
    "two_balls": Actor(("ball",), "radius", others=("other_ball",)),
    "cat_and_ball": Actor(("ball",), "radius", "other_colour", ("body", "hips", "feet")),
    "lamp": Actor(("box",), "half_side"),
    "pan": Actor(("tree",), "crown", grounded=False),
}


def size_of(scene: Scene) -> float:
    """The radius or half side of the actor."""
    return float(scene.state[ACTORS[scene.family].size].flat[0])


def path_of(scene: Scene) -> Floats:
    """The place of the actor's middle in every frame, `(T, 2)`."""
    place = scene.state[ACTORS[scene.family].paths[0]]
    return np.broadcast_to(place, (int(scene.state["frames"]), 2))


def moved(scene: Scene, by: Floats) -> State:
    """The places of the actor moved by `(2,)`, or in each frame by `(T, 2)`."""
    changed = {}
    for name in ACTORS[scene.family].paths:
        place = scene.state[name]
        changed[name] = place + (by[:, None] if by.ndim == 2 and place.ndim == 3 else by)
    return changed


def room(scene: Scene, path: Floats) -> Floats:
    """How far an actor on a path `(T, 2)` is from the sides of the frame and from others, `(T,)`.

    Negative where it would overlap them.
    """
    reach = size_of(scene) if ACTORS[scene.family].size else 0.2
    gap = np.minimum(path[:, 0], 1.0 - path[:, 0]) - reach
    for name in ACTORS[scene.family].others:
        if name in EXTENT:
            size, index, scale = EXTENT[name]
            extent = scale * float(scene.state[size].flat[index])
            away = np.broadcast_to(path - scene.state[name], path.shape)
            apart = np.abs(away[:, 0]) if name == "wall" else np.hypot(*away.T)
            gap = np.minimum(gap, apart - reach - extent)
    return gap


EXTENT = {
    "wall": ("wall_half", 0, 1.0),
    "target": ("radii", 1, 1.0),
    "square": ("half_side", 0, 1.2),
    "circle": ("radius", 0, 1.2),
    "other_ball": ("other_radius", 0, 1.0),
    "body": ("unit", 0, 16.0),
}
"""What another thing takes up round its middle: a name in the state, an index, and a factor."""
