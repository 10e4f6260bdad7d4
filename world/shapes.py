"""Signed distances, negative inside, in the unit of their arguments; all broadcast.

Formulas: I. Quilez, "2D distance functions" (iquilezles.org/articles/distfunctions2d).
"""

import numpy as np
from numpy.typing import ArrayLike

from world.palette import Floats

Number = Floats | float


def circle(x: Floats, y: Floats, radius: Number) -> Floats:
    """Distance to a circle round the origin."""
    distance: Floats = np.sqrt(x * x + y * y) - radius
    return distance


def ellipse(x: Floats, y: Floats, rx: Number, ry: Number) -> Floats:
    """Distance to an ellipse round the origin, exact to first order at its edge."""
    ux, uy = x / rx, y / ry
    norm = np.sqrt(ux * ux + uy * uy) + 1e-6
    gradient = np.sqrt((ux / rx) ** 2 + (uy / ry) ** 2) + 1e-6
    distance: Floats = norm * (norm - 1.0) / gradient
    return distance


def capsule(x: Floats, y: Floats, start: ArrayLike, end: ArrayLike, radius: Number) -> Floats:
    """Distance to a segment `start (..., 2)` to `end (..., 2)` thickened by a radius."""
    a, b = np.asarray(start, x.dtype), np.asarray(end, x.dtype)
    ax, ay = a[..., 0], a[..., 1]
    bx, by = b[..., 0] - ax, b[..., 1] - ay
    px, py = x - ax, y - ay
    along = np.clip((px * bx + py * by) / (bx * bx + by * by + 1e-12), 0.0, 1.0)
    dx, dy = px - along * bx, py - along * by
    distance: Floats = np.sqrt(dx * dx + dy * dy) - radius
    return distance


def box(x: Floats, y: Floats, half: Number, corner: Number) -> Floats:
    """Distance to a square of half side `half` round the origin with rounded corners."""
    return rectangle(x, y, half, half, corner)


def rectangle(x: Floats, y: Floats, half_x: Number, half_y: Number, corner: Number) -> Floats:
    """Distance to a rectangle of half sides round the origin with rounded corners."""
    dx, dy = np.abs(x) - half_x + corner, np.abs(y) - half_y + corner
    outside = np.sqrt(np.maximum(dx, 0.0) ** 2 + np.maximum(dy, 0.0) ** 2)
    distance: Floats = outside + np.minimum(np.maximum(dx, dy), 0.0) - corner
    return distance


def triangle(x: Floats, y: Floats, corners: ArrayLike) -> Floats:
    """Distance to a triangle with corners `(..., 3, 2)` in any order."""
    a, b, c = np.moveaxis(np.asarray(corners, x.dtype), -2, 0)
    area = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1])
    turn = np.sign(area - (b[..., 1] - a[..., 1]) * (c[..., 0] - a[..., 0]))
    sides = []
    for p, q in ((a, b), (b, c), (c, a)):
        ex, ey = q[..., 0] - p[..., 0], q[..., 1] - p[..., 1]
        length = np.sqrt(ex * ex + ey * ey) + 1e-9
        sides.append(((x - p[..., 0]) * ey - (y - p[..., 1]) * ex) * turn / length)
    distance: Floats = np.maximum(np.maximum(sides[0], sides[1]), sides[2])
    return distance


def union(first: Floats, *others: Floats) -> Floats:
    """The union of shapes: inside any of them."""
    for other in others:
        first = np.minimum(first, other)
    return first


def smooth_union(a: Floats, b: Floats, blend: float) -> Floats:
    """The union of two shapes with a fillet about `blend` wide where they meet."""
    h = np.maximum(blend - np.abs(a - b), 0.0)
    distance: Floats = np.minimum(a, b) - h * h / (4.0 * blend)
    return distance
