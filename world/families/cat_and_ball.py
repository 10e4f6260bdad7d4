"""A cat walks at the back and a ball rolls in front, each its own way."""

import numpy as np

from world.families import roll, walk
from world.families.ball import draw_rolling
from world.painter import Canvas
from world.palette import Floats, sample_colour


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The cat's state as in `walk`, the ball's as in `roll`.

    The ground is wider than elsewhere, so that the two never overlap: the cat walks on `floor`,
    the ball rolls on `lane` below it in the picture.
    """
    horizon = rng.uniform(0.58, 0.64)
    back, front = horizon + rng.uniform(0.05, 0.07), rng.uniform(0.955, 0.975)
    radius, speed = rng.uniform(5.0, 6.5) / 64, rng.uniform(1.0, 2.4) / 64
    gait = {"direction": slots["direction"], "colour": slots["colour"], "legs": "four"}
    return {
        **walk.sample(rng, gait, back, frames),
        **roll.rolling(rng, slots["other_direction"], speed, radius, front, frames),
        "radius": np.array(radius),
        "other_colour": sample_colour(rng, slots["other_colour"]),
        "horizon": np.array(horizon),
        "floor": np.array(back),
        "lane": np.array(front),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """The cat, then the ball in front of it."""
    walk.draw(canvas, state)
    radius = float(state["radius"])
    draw_rolling(canvas, state["ball"], radius, state["other_colour"], state["turn"])
