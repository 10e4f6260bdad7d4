"""A number of balls with faces stay on the floor and blink."""

import numpy as np

from world.families.ball import draw_faced
from world.painter import Canvas, shadow
from world.palette import Floats, sample_colour

NUMBERS = {"two": 2, "three": 3, "four": 4, "five": 5}
GAP, MARGIN = 3 / 64, 1.5 / 64  # between two balls, and to the border


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The balls' middles `(T, n, 2)`, which do not move, and their `radii (n,)`.

    `eyes (T, n)` is 1 where a ball's eyes are open and 0 where it blinks.
    """
    count = NUMBERS[slots["number"]]
    room = 1.0 - 2.0 * MARGIN - (count - 1) * GAP
    radius = rng.uniform(4.3 / 64, min(8 / 64, room / (2 * count)))
    radii = radius * rng.uniform(0.92, 1.0, count)
    # What is left of the width is shared out between the balls and both ends.
    spare = (room - 2.0 * radii.sum()) * rng.dirichlet(np.ones(count + 1))[:-1]
    left = MARGIN + np.cumsum(spare) + np.arange(count) * GAP
    x = left + 2.0 * np.cumsum(radii) - radii
    y = floor - radii + rng.uniform(-1.5, 1.5, count) / 64
    blink = rng.integers(0, frames - 1, count)
    t = np.arange(frames)[:, None]
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "balls": np.repeat(np.stack([x, y], axis=1)[None], frames, axis=0),
        "radii": radii,
        "eyes": ((t < blink) | (t > blink + 1)).astype(np.float64),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """The balls and their shadows."""
    still = np.zeros(canvas.frames)
    for k, radius in enumerate(state["radii"].tolist()):
        ball = state["balls"][:, k]
        shadow(canvas, ball + (0.0, radius), 1.1 * radius, 0.40)
        draw_faced(canvas, ball, radius, state["colour"], still, state["eyes"][:, k])
