"""A ball rolls behind a wall at constant speed and comes out on the other side."""

import numpy as np

from world.families.ball import draw_rolling
from world.painter import Canvas, Patch
from world.palette import BRICK, Floats, sample_colour

MARGIN = 1 / 64
COURSE = 4 / 64  # height of a row of bricks
MORTAR = np.array(BRICK) * 0.72


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The ball's path `(T, 2)` of constant `velocity` per frame, and the wall it passes behind.

    `wall (2,)` is its middle and `wall_half (2,)` half its width and height. The ball is wholly
    behind it from time `hidden[0]` to `hidden[1]`, in frames, at least 2.1 frames long, and wholly
    in view in at least three frames before and three after. `turn (T,)` is as in `roll`.
    """
    while True:
        radius, speed = rng.uniform(4.5, 6.2) / 64, rng.uniform(2.45, 2.95) / 64
        behind = rng.uniform(2.1, 3.4)
        free = (frames - 1 - behind) * speed - 4.0 * radius  # the way in full view
        if free > 4.0 * speed:
            break
    first = rng.uniform(radius + MARGIN, 1.0 - MARGIN - radius - speed * (frames - 1))
    before = rng.uniform(2.0 * speed, free - 2.0 * speed)
    half_width = radius + 0.5 * behind * speed
    top, foot = (
        floor - 2.0 * radius - rng.uniform(4.0, 10.0) / 64,
        floor + rng.uniform(1.5, 3.0) / 64,
    )
    travelled = speed * np.arange(frames)
    x, turn, middle = first + travelled, travelled / radius, first + before + radius + half_width
    velocity = speed
    if rng.random() < 0.5:
        x, turn, middle, velocity = 1.0 - x, -turn, 1.0 - middle, -speed
    entry = (before + 2.0 * radius) / speed
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "ball": np.stack([x, np.full(frames, floor - radius)], axis=1),
        "radius": np.array(radius),
        "velocity": np.array(velocity),
        "turn": turn + rng.uniform(0.0, np.pi),
        "wall": np.array([middle, 0.5 * (top + foot)]),
        "wall_half": np.array([half_width, 0.5 * (foot - top)]),
        "hidden": np.array([entry, entry + behind]),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """The ball, then the wall in front of it."""
    draw_rolling(canvas, state["ball"], float(state["radius"]), state["colour"], state["turn"])
    half_width, half_height = state["wall_half"].tolist()
    with canvas.patch(state["wall"], (half_width, half_height)) as patch:
        _draw_wall(patch, half_width, half_height)


def _draw_wall(patch: Patch, half_width: float, half_height: float) -> None:
    body = np.maximum(np.abs(patch.x) - half_width, np.abs(patch.y) - half_height)
    patch.ink(body, BRICK, MORTAR * 0.8)
    row = (patch.y + half_height) / COURSE
    bed = (0.5 - np.abs(row % 1.0 - 0.5)) * COURSE
    brick = (patch.x / (2.0 * COURSE) + 0.5 * (np.floor(row) % 2.0)) % 1.0
    joint = np.minimum(brick, 1.0 - brick) * 2.0 * COURSE
    lines = np.minimum(bed, joint) - 0.4 / 64
    patch.blend(0.6 * patch.coverage(np.maximum(lines, body + 0.75 / 64)), MORTAR)
