"""A sign shows a word, and a bird sits on it.

Exact state: `glyphs` `(N, 7, 5)` are the dots of the letters (`world.font`), 1 where there is
ink; a dot is a square of side `dot` = 2/64, a letter takes 6 x 7 dots with the gap that follows it,
and `text` is the upper left corner of the first, on the grid of 1/64, so that at 64 pixels every
dot is four whole pixels. Nothing ever hides a letter. `board` is the middle of the board and its
half sides; the bird at `bird` `(T, 2)` hops on its upper edge.
"""

import numpy as np

from world import font, shapes
from world.painter import Canvas, Patch, shadow
from world.palette import INK, WOOD, Floats

DOT = 2 / 64
FRAME = 1.75 / 64  # the width of the board's frame
PAPER = (0.99, 0.97, 0.90)


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The letters and their place, the board, and a bird's hops."""
    word = slots["word"]
    width = DOT * ((font.WIDTH + 1) * len(word) - 1)
    margin = rng.uniform(2.0, 3.2, 2) / 64 + FRAME
    half = 0.5 * np.array([width, DOT * font.HEIGHT]) + margin
    low = np.array([half[0], 0.28 + half[1]]) + 1 / 64
    high = np.array([1.0 - half[0], 0.66 - half[1]]) - 1 / 64
    corner = np.round((rng.uniform(low, np.maximum(low, high)) - half + margin) * 64) / 64
    middle = corner - margin + half
    size = rng.uniform(4.0, 5.0) / 64
    perch = middle[0] + rng.uniform(-0.75, 0.75) * half[0]
    clock = np.arange(frames) / rng.uniform(3.5, 6.0) + rng.random()
    air = np.maximum(np.sin(2.0 * np.pi * clock), 0.0)
    step = rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 2.5) / 64
    bird_x = perch + step * np.sin(np.pi * clock)
    bird_y = middle[1] - half[1] - 0.9 * size - rng.uniform(2.0, 3.5) / 64 * air
    return {
        "glyphs": font.glyphs(word),
        "text": corner,
        "dot": np.array(DOT),
        "board": np.stack([middle, half]),
        "bird": np.stack([bird_x, bird_y], axis=1),
        "bird_size": np.array(size),
        "bird_facing": np.array(rng.choice([-1.0, 1.0])),
        "bird_colour": rng.uniform((0.80, 0.30, 0.20), (0.95, 0.50, 0.35)),
        "ink": np.array(INK) + rng.uniform(0.0, 0.05, 3),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """A board with a wooden frame on a post, the word on it in square dots."""
    middle, half = state["board"]
    floor, wood = float(state["floor"]), np.array(WOOD)
    shadow(canvas, np.array([middle[0], floor]), 0.5 * float(half[0]), 0.3)
    post = 0.5 * (floor - middle[1])
    with canvas.patch(np.array([middle[0], middle[1] + post]), (0.05, float(post))) as patch:
        patch.ink(shapes.rectangle(patch.x, patch.y, 2.0 / 64, post, 0.5 / 64), wood, 0.6 * wood)
    with canvas.patch(middle, (float(half[0]), float(half[1]))) as patch:
        board = shapes.rectangle(patch.x, patch.y, half[0], half[1], 2.0 / 64)
        patch.ink(board, wood, 0.6 * wood)
        patch.fill(board + FRAME, PAPER)
    for place, glyph in zip(places(state), state["glyphs"], strict=True):
        _draw_glyph(canvas, place, glyph, state)
    reach = 1.6 * float(state["bird_size"])
    with canvas.patch(state["bird"], (reach, reach)) as patch:
        _draw_bird(patch, state)


def places(state: dict[str, Floats]) -> Floats:
    """The upper left corner of each letter, `(N, 2)`."""
    steps = np.arange(len(state["glyphs"]))[:, None] * ((font.WIDTH + 1) * state["dot"], 0.0)
    corners: Floats = state["text"] + steps
    return corners


def _draw_glyph(canvas: Canvas, place: Floats, glyph: Floats, state: dict[str, Floats]) -> None:
    """All dots of a letter at once: how much of a pixel each covers is a product of overlaps."""
    dot = float(state["dot"])
    centre = place + 0.5 * dot * np.array(glyph.shape[::-1])
    with canvas.patch(centre, (float(centre[0] - place[0]), float(centre[1] - place[1]))) as patch:
        pixel = 1.0 / patch.size

        def overlap(at: Floats, count: int) -> Floats:
            edge = dot * (np.arange(count) - 0.5 * count)
            ends = np.minimum(at + 0.5 * pixel, edge + dot) - np.maximum(at - 0.5 * pixel, edge)
            part: Floats = np.clip(ends / pixel, 0.0, 1.0)
            return part

        rows = overlap(patch.y[0], glyph.shape[0])
        columns = overlap(patch.x[0].T, glyph.shape[1])
        covered = np.asarray(rows @ glyph @ columns.T).astype(np.float32)
        patch.blend(np.minimum(covered, 1.0)[None], state["ink"])


def _draw_bird(patch: Patch, state: dict[str, Floats]) -> None:
    size, colour = float(state["bird_size"]), state["bird_colour"]
    x, y = patch.x * np.float32(state["bird_facing"]) / size, patch.y / size
    beak = shapes.triangle(x, y, ((0.6, -0.5), (0.6, 0.1), (1.45, -0.1)))
    patch.fill(beak * size, (1.0, 0.75, 0.15))
    tail = shapes.triangle(x, y, ((-0.5, 0.1), (-0.5, 0.75), (-1.5, -0.35)))
    body = shapes.union(shapes.circle(x, y, 0.95), tail)
    patch.ink(body * size, colour, 0.6 * colour)
    patch.fill(shapes.circle(x - 0.38, y + 0.28, 0.24) * size, INK)
