"""A ball rolls along the floor at constant speed."""

import numpy as np

from world.families.ball import draw_rolling
from world.painter import Canvas
from world.palette import Floats, sample_colour

# Per frame, in parts of the side: an eighth at least between one word's speeds and the next.
SPEEDS = {
    "slow": (0.7 / 64, 1.0 / 64),
    "medium": (1.5 / 64, 1.9 / 64),
    "fast": (2.4 / 64, 2.75 / 64),
}
MARGIN = 1 / 64


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The ball's path `(T, 2)`, of which `velocity` per frame is the constant x part, and its roll.

    `turn (T,)` is the angle of a ball that does not slip, clockwise: it grows by
    `velocity / radius` a frame. The whole ball is in view in every frame.
    """
    radius = rng.uniform(5.5, 8.5) / 64
    speed = rng.uniform(*SPEEDS[slots["speed"]])
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "radius": np.array(radius),
        **rolling(rng, slots["direction"], speed, radius, floor, frames),
    }


def rolling(
    rng: np.random.Generator,
    direction: str,
    speed: float,
    radius: float,
    floor: float,
    frames: int,
) -> dict[str, Floats]:
    """A path `ball (T, 2)` that stays in view, its `velocity` and `turn (T,)`."""
    velocity = -speed if direction == "left" else speed
    room = radius + MARGIN
    first = rng.uniform(room, 1.0 - room - speed * (frames - 1))
    travelled = velocity * np.arange(frames)
    x = travelled + (1.0 - first if velocity < 0 else first)
    return {
        "ball": np.stack([x, np.full(frames, floor - radius)], axis=1),
        "velocity": np.array(velocity),
        "turn": rng.uniform(0.0, np.pi) + travelled / radius,
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """The ball and its shadow."""
    draw_rolling(canvas, state["ball"], float(state["radius"]), state["colour"], state["turn"])
