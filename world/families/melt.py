"""An ice cube melts into a puddle: no water is lost.

Exact state, areas in parts of the frame's area: with the density of ice `density` = 0.92 of that
of water, `density * ice_area + puddle_area` is the same in every frame; `ice_area` `(T,)` falls
and `puddle_area` `(T,)` rises all the time. The cube's `half_side` `(T,)` shrinks at a constant
rate, its corners are rounded by `corner` `(T,)`; it stands on the floor at `x`. The puddle is an
ellipse with half axes `puddle` `(T, 2)` that lies just in front of it: no part of either is hidden.
"""

import numpy as np

from world import shapes
from world.families.face import draw_face
from world.painter import Canvas, Patch, over_frames, shadow
from world.palette import ICE, WATER, Floats

DENSITY = 0.92
ROOM = 0.5 / 64  # between the puddle and the lower edge of the frame


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The sizes of the cube and of its puddle."""
    start = rng.uniform(9.0, 11.0) / 64
    round_first, round_last = rng.uniform((0.18, 0.45), (0.26, 0.65)).tolist()
    whole = float(cube_area(start, start * round_first))
    wide, deep = rng.uniform(21.0, 26.0) / 64, 0.5 * (1.0 - ROOM - floor) * rng.uniform(0.8, 1.0)
    melted = min(np.pi * wide * deep, DENSITY * whole * rng.uniform(0.65, 0.8))
    left = np.sqrt((whole - melted / DENSITY) / cube_area(1.0, round_last))
    half = np.linspace(start, left, frames)
    corner = half * np.linspace(round_first, round_last, frames)
    ice = cube_area(half, corner)
    water = DENSITY * np.maximum(whole - ice, 0.0)  # round-off may take it below none
    x = rng.uniform(max(0.36, wide + 1 / 64), min(0.64, 1.0 - wide - 1 / 64))
    return {
        "x": np.array(x),
        "half_side": half,
        "corner": corner,
        "ice_area": ice,
        "puddle_area": water,
        "puddle": np.sqrt(water / melted)[:, None] * (wide, melted / (np.pi * wide)),
        "density": np.array(DENSITY),
    }


def cube_area(half: Floats | float, corner: Floats | float) -> Floats:
    """The area of a square of half side `half` whose corners are rounded."""
    return np.asarray(4.0 * half**2 - (4.0 - np.pi) * corner**2)


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """A cube with a face and a glint, its puddle before it."""
    x, floor = float(state["x"]), float(state["floor"])
    half, puddle = state["half_side"], state["puddle"]
    middle = np.stack([np.full(canvas.frames, x), floor - half], axis=1)
    shadow(canvas, np.array([x, floor]), 0.6 * float(half[0]), 0.2)
    lying = np.stack([middle[:, 0], floor + puddle[:, 1]], axis=1)
    rx, ry = (over_frames(axis) for axis in np.maximum(puddle, 1e-3).T)
    with canvas.patch(lying, (float(puddle[:, 0].max()), float(puddle[:, 1].max()))) as patch:
        pool = shapes.ellipse(patch.x, patch.y, rx, ry)
        patch.fill(np.where(over_frames(puddle[:, 1]) > 1e-3, pool, 1.0), WATER)
    with canvas.patch(middle, (float(half.max()), float(half.max()))) as patch:
        _draw_cube(patch, over_frames(half), over_frames(state["corner"]))


def _draw_cube(patch: Patch, half: Floats, corner: Floats) -> None:
    ice = np.array(ICE)
    patch.ink(shapes.box(patch.x, patch.y, half, corner), ice, 0.5 * ice)
    draw_face(patch, half, ice)
    glint = shapes.capsule(patch.x / half, patch.y / half, (-0.62, -0.38), (-0.38, -0.62), 0.09)
    patch.blend(0.9 * patch.coverage(glint * half), (1.0, 1.0, 1.0))
