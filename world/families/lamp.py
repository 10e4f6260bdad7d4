"""A lamp that slides along its post casts the shadow of a box.

Exact state: the bulb `lamp` `(T, 2)` is a point of light; the ray over the box's far upper corner
meets the floor at `tip` `(T,)`, so that with the box's height h = 2 `half_side` and the bulb's
height H above the floor the shadow's length from the box is
`length` `(T,)` = |far corner - lamp| h / (H - h). It lies on the floor on the side away from the
lamp. `box` `(2,)` is the middle of the box.
"""

import numpy as np

from world import shapes
from world.families.face import draw_face
from world.painter import Canvas, Patch, over_frames, shadow
from world.palette import INK, STEEL, Floats, outline_of, sample_colour
from world.timing import smoothstep

BULB, SHADE = (1.0, 0.95, 0.70), (0.24, 0.25, 0.31)
THICK = 2.6 / 64  # half the width of the shadow on the floor
DARKNESS = 0.62
HALO = 9.5 / 64  # radius of the glow round the bulb
LIT = 0.13  # half the height of the light on the floor, which is as wide as the frame


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The box, the lamp's way up or down its post, and the tip of the shadow."""
    away = 1.0 if slots["direction"] == "left" else -1.0
    while True:
        half = rng.uniform(6.0, 8.5) / 64
        post = rng.uniform(9.0, 13.0) / 64
        near = post + rng.uniform(12.0, 18.0) / 64
        heights = rng.uniform(2.0 * half + 14 / 64, floor - 6 / 64, 2)
        length = (near + 2.0 * half - post) * 2.0 * half / (heights - 2.0 * half)
        inside = near + 2.0 * half + length.max() < 62 / 64
        if inside and length.min() > 7 / 64 and np.ptp(length) > 9 / 64:
            break
    part = smoothstep(np.arange(frames) / (frames - 1))
    height = heights[0] + (heights[1] - heights[0]) * part

    def side(x: Floats | float) -> Floats:
        return np.asarray(x if away > 0 else 1.0 - np.asarray(x))

    far = near + 2.0 * half
    length = (far - post) * 2.0 * half / (height - 2.0 * half)
    lamp_x = np.full(frames, side(post))
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "away": np.array(away),
        "lamp": np.stack([lamp_x, floor - height], axis=1),
        "post_top": np.array(floor - heights.max() - 3 / 64),
        "box": np.array([side(near + half), floor - half]),
        "half_side": np.array(half),
        "length": length,
        "tip": side(far + length),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """Light, shadow, the lamp on its post, and the box with a face."""
    floor, half = float(state["floor"]), float(state["half_side"])
    foot = np.array([state["lamp"][0, 0], floor])
    with canvas.patch(state["lamp"], (HALO, HALO)) as patch:
        away = np.minimum((patch.x**2 + patch.y**2) / HALO**2, 1.0)
        patch.blend(0.55 * (1.0 - away), BULB)
    with canvas.patch(foot, (1.0, LIT)) as patch:
        patch.blend(0.22 * np.maximum(1.0 - (patch.y / LIT) ** 2, 0.0), BULB)
    base = float(state["box"][0])
    middle = np.stack([0.5 * (base + state["tip"]), np.full(canvas.frames, floor)], axis=1)
    length = 0.5 * np.abs(state["tip"] - base)
    with canvas.patch(middle, (float(length.max()), THICK)) as patch:
        lying = shapes.rectangle(patch.x, patch.y, over_frames(length), THICK, 1.0 / 64)
        patch.blend(DARKNESS * patch.coverage(lying), (0.03, 0.03, 0.07))
    shadow(canvas, foot, 5 / 64, 0.3)
    _draw_post(canvas, foot, float(state["post_top"]))
    with canvas.patch(state["lamp"], (0.12, 0.12)) as patch:
        _draw_lamp(patch)
    with canvas.patch(state["box"], (half, half)) as patch:
        colour = state["colour"]
        patch.ink(shapes.box(patch.x, patch.y, half, 0.1 * half), colour, outline_of(colour))
        draw_face(patch, half, colour)


def _draw_post(canvas: Canvas, foot: Floats, top: float) -> None:
    steel = np.array(STEEL)
    half = 0.5 * (float(foot[1]) - top)
    with canvas.patch(np.array([foot[0], top + half]), (5 / 64, half + 1 / 64)) as patch:
        pole = shapes.rectangle(patch.x, patch.y, 0.9 / 64, half, 0.0)
        stand = shapes.ellipse(patch.x, patch.y - half, 4.5 / 64, 1.4 / 64)
        patch.ink(shapes.union(pole, stand), steel, 0.5 * steel)


def _draw_lamp(patch: Patch) -> None:
    """A bulb in the middle of the patch under a shade like a hat."""
    x, y = patch.x * 64, patch.y * 64
    patch.ink(shapes.circle(x, y, 2.9) / 64, BULB, (0.85, 0.62, 0.15))
    slope = 0.78 * np.abs(x) - 0.62 * (y + 0.8)
    shade = np.maximum(np.maximum(slope - 4.2, y + 0.8), -y - 5.4)
    patch.ink(shade / 64, SHADE, INK)
