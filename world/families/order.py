"""First a ball falls, then, when it lies still, a square moves."""

import numpy as np

from world import shapes
from world.families.ball import draw_faced
from world.families.face import draw_face
from world.painter import Canvas, shadow
from world.palette import Floats, outline_of, sample_colour

CLEARANCE = 3 / 64  # the least gap between the two
MARGIN = 1 / 64


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The paths `ball (T, 2)` and `square (T, 2)`.

    The ball hangs still until `release`, falls with constant `gravity` per frame squared until
    `landing`, and lies where it fell. The square rests until `start`, at least 1.5 frames after the
    landing, and then moves at constant `velocity` per frame. Times are in frames.
    """
    radius, half = rng.uniform(5.0, 7.0) / 64, rng.uniform(5.0, 7.5) / 64
    release, fall = rng.uniform(1.0, 2.2), rng.uniform(4.0, 5.2)
    top = rng.uniform(radius + 2 / 64, radius + 9 / 64)
    height = floor - radius - top
    gravity = 2.0 * height / fall**2
    t = np.arange(frames)
    y = top + np.minimum(0.5 * gravity * np.maximum(t - release, 0.0) ** 2, height)
    start = release + fall + rng.uniform(1.5, 2.5)
    velocity = rng.uniform(1.8, 2.6) / 64 * (-1.0 if slots["direction"] == "left" else 1.0)
    while True:
        x = rng.uniform(radius + MARGIN, 1.0 - radius - MARGIN)
        path = rng.uniform(half + MARGIN, 1.0 - half - MARGIN) + velocity * np.maximum(t - start, 0)
        inside = half + MARGIN <= path[-1] <= 1.0 - half - MARGIN
        apart = np.abs(path - x).min() >= radius + half + CLEARANCE
        if inside and apart and (x < path[0]) == (x < path[-1]):
            break
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "other_colour": sample_colour(rng, slots["other_colour"]),
        "ball": np.stack([np.full(frames, x), y], axis=1),
        "radius": np.array(radius),
        "gravity": np.array(gravity),
        "release": np.array(release),
        "landing": np.array(release + fall),
        "square": np.stack([path, np.full(frames, floor - half)], axis=1),
        "half_side": np.array(half),
        "start": np.array(start),
        "velocity": np.array(velocity),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """Both with a face and a shadow; the ball's shadow darkens as it comes near."""
    floor, radius, half = (float(state[name]) for name in ("floor", "radius", "half_side"))
    ball, square = state["ball"], state["square"]
    nearness = np.clip(1.0 - (floor - radius - ball[:, 1]) / 0.7, 0.0, 1.0)
    for x, reach, strength in (
        (ball[:, 0], radius, 0.08 + 0.37 * nearness**2),
        (square[:, 0], half, 0.34),
    ):
        under = np.stack([x, np.full(canvas.frames, floor)], axis=1)
        shadow(canvas, under, 1.1 * reach, strength)
    still = np.zeros(canvas.frames)
    draw_faced(canvas, ball, radius, state["colour"], still, still + 1.0)
    with canvas.patch(square, (half, half)) as patch:
        body = shapes.box(patch.x, patch.y, half, 0.12 * half)
        patch.ink(body, state["other_colour"], outline_of(state["other_colour"]))
        draw_face(patch, half, state["other_colour"])
