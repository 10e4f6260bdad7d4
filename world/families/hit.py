"""A ball rolls into a resting one: an elastic collision on a line."""

import math

import numpy as np

from world.families.ball import draw_rolling
from world.painter import Canvas
from world.palette import Floats, sample_colour

MARGIN = 1 / 64


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The paths `mover (T, 2)` and `target (T, 2)`, both uniform before and after `contact`.

    The `mass (2,)` of a ball is its area. Momentum and energy along the floor are conserved
    (`restitution` 1): for a target at rest, v1' = (m1 - m2)/(m1 + m2) v1 and
    v2' = 2 m1/(m1 + m2) v1, held in `before (2,)` and `after (2,)`, per frame. Both stand on the
    floor, so they touch when their middles are 2 sqrt(r1 r2) apart along it.
    """
    while True:
        radii = rng.uniform(4.5, 7.5, 2) / 64
        mass = radii**2
        contact = rng.uniform(5.0, 8.5)
        before = np.array([rng.uniform(1.5, 2.6) / 64, 0.0])
        after = np.array([mass[0] - mass[1], 2.0 * mass[0]]) / mass.sum() * before[0]
        since = np.arange(frames)[:, None] - contact
        # The mover's middle is at 0 at contact; both are mirrored below if it comes from the right.
        x = np.where(since < 0, before, after) * since + [0.0, 2.0 * math.sqrt(radii.prod())]
        low, high = (x - radii).min(), (x + radii).max()
        if high - low < 1.0 - 2.0 * MARGIN:
            break
    x += rng.uniform(MARGIN - low, 1.0 - MARGIN - high)
    turn = rng.uniform(0.0, np.pi, 2) + (x - x[0]) / radii
    if rng.random() < 0.5:
        x, turn, before, after = 1.0 - x, -turn, -before, -after
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "other_colour": sample_colour(rng, slots["other_colour"]),
        "mover": np.stack([x[:, 0], np.full(frames, floor - radii[0])], axis=1),
        "target": np.stack([x[:, 1], np.full(frames, floor - radii[1])], axis=1),
        "radii": radii,
        "mass": np.pi * mass,
        "before": before,
        "after": after,
        "restitution": np.array(1.0),
        "contact": np.array(contact),
        "turn": turn,
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """Both balls and their shadows."""
    actors = (("mover", "colour"), ("target", "other_colour"))
    for k, (path, colour) in enumerate(actors):
        radius, turn = float(state["radii"][k]), state["turn"][:, k]
        draw_rolling(canvas, state[path], radius, state[colour], turn)
