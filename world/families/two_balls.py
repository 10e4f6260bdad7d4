"""Two balls roll, one behind the other, each its own way."""

import numpy as np

from world.families.ball import draw_rolling
from world.families.roll import rolling
from world.painter import Canvas
from world.palette import Floats, sample_colour


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The state of each ball as in `roll`, the second one's under names that begin with `other_`.

    The ground is wider than elsewhere, so that the two never overlap: they roll on `lanes (2,)`,
    the first named at the back or in front.
    """
    lanes = np.array([rng.uniform(0.62, 0.68), rng.uniform(0.955, 0.975)])
    if rng.random() < 0.5:
        lanes = lanes[::-1]
    state = {"horizon": np.array(rng.uniform(0.52, 0.58)), "lanes": lanes}
    for prefix, lane in zip(("", "other_"), lanes.tolist(), strict=True):
        radius, speed = rng.uniform(5.5, 7.5) / 64, rng.uniform(1.0, 2.5) / 64
        path = rolling(rng, slots[f"{prefix}direction"], speed, radius, lane, frames)
        state |= {f"{prefix}{name}": value for name, value in path.items()}
        state[f"{prefix}radius"] = np.array(radius)
        state[f"{prefix}colour"] = sample_colour(rng, slots[f"{prefix}colour"])
    return state


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """Both balls and their shadows."""
    for prefix in ("", "other_"):
        ball, colour, turn = (state[prefix + name] for name in ("ball", "colour", "turn"))
        draw_rolling(canvas, ball, float(state[prefix + "radius"]), colour, turn)
