"""A square to the left or right of a circle; both drift slowly and never swap or touch."""

import numpy as np

from world import shapes
from world.families.face import draw_face
from world.painter import Canvas, shadow
from world.palette import Floats, outline_of, sample_colour

CLEARANCE = 3 / 64  # the least gap between the two
MAX_SPEED = 0.5 / 64  # per frame


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """Sizes and the paths `(T, 2)` of both."""
    square, circle = rng.uniform(7.0, 10.0, 2) / 64  # half side and radius
    margin = np.array([square, circle]) + 1 / 64
    side = 1.0 if slots["direction"] == "right" else -1.0
    while True:
        # What holds at the start and at the end holds between: the paths are straight.
        first = rng.uniform(margin, 1 - margin)
        last = first + rng.uniform(-MAX_SPEED, MAX_SPEED, 2) * (frames - 1)
        apart = min(side * (x[0] - x[1]) for x in (first, last))
        inside = bool(((last > margin) & (last < 1 - margin)).all())
        if inside and square + circle + CLEARANCE < apart < 0.62:
            break
    t = np.arange(frames)
    x = np.linspace(first, last, frames)
    lift = rng.uniform(0.0, 12.0, 2) / 64 * (rng.random() < 0.5)
    bob = np.minimum(lift, 0.75 / 64) * np.sin(
        2 * np.pi * (t[:, None] / rng.uniform(10, 16, 2) + rng.random(2))
    )
    y = floor - np.array([square, circle]) - lift + bob
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "other_colour": sample_colour(rng, slots["other_colour"]),
        "square": np.stack([x[:, 0], y[:, 0]], axis=1),
        "circle": np.stack([x[:, 1], y[:, 1]], axis=1),
        "half_side": np.array(square),
        "radius": np.array(circle),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """Both shapes with a face, and a shadow under each."""
    floor = float(state["floor"])
    half, radius = float(state["half_side"]), float(state["radius"])
    for centre, reach in ((state["square"], half), (state["circle"], radius)):
        under = np.stack([centre[:, 0], np.full(canvas.frames, floor)], axis=1)
        height = np.clip((floor - reach - centre[:, 1]) / 0.25, 0.0, 1.0)
        shadow(canvas, under, reach * 1.1, 0.34 - 0.22 * height)
    with canvas.patch(state["square"], (half, half)) as patch:
        patch.ink(
            shapes.box(patch.x, patch.y, half, 0.12 * half),
            state["colour"],
            outline_of(state["colour"]),
        )
        draw_face(patch, half, state["colour"])
    with canvas.patch(state["circle"], (radius, radius)) as patch:
        patch.ink(
            shapes.circle(patch.x, patch.y, radius),
            state["other_colour"],
            outline_of(state["other_colour"]),
        )
        draw_face(patch, radius, state["other_colour"])
