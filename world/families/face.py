"""Faces: the eyes and the smile that the actors share."""

import numpy as np

from world import shapes
from world.painter import Patch
from world.palette import INK, IVORY, Floats


def draw_face(patch: Patch, reach: float, colour: Floats) -> None:
    """Two eyes and a smile in the middle of a shape that is `reach` from middle to edge."""
    x, y = np.abs(patch.x), patch.y
    paint = IVORY if colour.max() < 0.3 else INK
    patch.fill(shapes.ellipse(x - 0.36 * reach, y + 0.16 * reach, 0.15 * reach, 0.2 * reach), paint)
    ring = np.abs(shapes.circle(x, y - 0.1 * reach, 0.27 * reach)) - 0.075 * reach
    patch.fill(np.maximum(ring, 0.22 * reach - y), paint)
