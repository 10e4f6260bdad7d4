"""Faces: the eyes and the smile that the actors share."""

import numpy as np

from world import shapes
from world.painter import Patch, over_frames
from world.palette import INK, IVORY, Floats


def draw_face(
    patch: Patch,
    reach: Floats | float,
    colour: Floats,
    turn: Floats | None = None,
    eyes: Floats | None = None,
) -> None:
    """Two eyes and a smile in the middle of a shape that is `reach` from middle to edge.

    `reach` may be `(T, 1, 1)`. `turn (T,)` tilts the face clockwise, in radians; `eyes (T,)` is 1
    where they are open and 0 where they are shut.
    """
    x, y = (patch.x, patch.y) if turn is None else turned(patch, turn)
    x = np.abs(x)
    paint = IVORY if colour.max() < 0.3 else INK
    height = 0.2 * reach if eyes is None else (0.07 + 0.13 * over_frames(eyes)) * reach
    patch.fill(shapes.ellipse(x - 0.36 * reach, y + 0.16 * reach, 0.15 * reach, height), paint)
    ring = np.abs(shapes.circle(x, y - 0.1 * reach, 0.27 * reach)) - 0.075 * reach
    patch.fill(np.maximum(ring, 0.22 * reach - y), paint)


def turned(patch: Patch, turn: Floats) -> tuple[Floats, Floats]:
    """The coordinates `(T, h, w)` of a patch in a body that is turned clockwise, radians `(T,)`."""
    cos, sin = over_frames(np.cos(turn)), over_frames(np.sin(turn))
    return cos * patch.x + sin * patch.y, cos * patch.y - sin * patch.x
