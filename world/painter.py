"""An antialiased painter over all frames of a clip at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import ArrayLike

from world.palette import Floats
from world.style import STYLES, Style


class Canvas:
    """A clip being painted: `pixels` float32 `(3, T, height, width)` in [0, 1]; y points down.

    The background it is painted on is `(3, T, height, width)`, or one frame of it for all. The
    scene's unit square lies in the middle, as large as it can be; where a canvas is not square,
    more of the surroundings is to be seen. `margins` are what is seen beside it in x and in y.
    """

    def __init__(self, background: Floats, frames: int, style: Style = STYLES["plain"]) -> None:
        self.shape = background.shape[-1], background.shape[-2]  # along x and y
        self.size = min(self.shape)
        self.margins = margins(self.shape)
        self.frames, self.style = frames, style
        self.pixels = np.repeat(
            background.astype(np.float32), frames // background.shape[1], axis=1
        )

    @contextmanager
    def patch(self, centre: Floats, reach: tuple[float, float]) -> Iterator[Patch]:
        """A window that follows `centre` `(T, 2)` or `(2,)`, at least `reach` to each side.

        Near the border the window stays on the canvas, so what leaves the frame is cut there.
        """
        centre = np.broadcast_to(centre, (self.frames, 2)) + self.margins
        index = []
        for axis, pixels in enumerate(self.shape):
            span = min(pixels, math.ceil(2 * reach[axis] * self.size) + 3)
            first = np.floor((centre[:, axis] - reach[axis]) * self.size).astype(int) - 1
            first = np.clip(first, 0, pixels - span)
            index.append(first[:, None] + np.arange(span))
        columns, rows = index
        where = (
            slice(None),
            np.arange(self.frames)[:, None, None],
            rows[:, :, None],
            columns[:, None, :],
        )
        x = (columns + 0.5) / self.size - centre[:, :1]
        y = (rows + 0.5) / self.size - centre[:, 1:]
        window = Patch(
            np.ascontiguousarray(self.pixels[where]),
            x[:, None, :].astype(np.float32),
            y[:, :, None].astype(np.float32),
            self.size,
            self.style,
        )
        yield window
        self.pixels[where] = window.pixels


def margins(shape: tuple[int, int]) -> tuple[float, float]:
    """How far a picture so wide and high reaches beyond the scene's square, in its sides."""
    width, height = shape
    side = min(shape)
    return (width - side) / 2 / side, (height - side) / 2 / side


class Patch:
    """A window of a canvas: `pixels (3, T, h, w)`; `x (T, 1, w)`, `y (T, h, 1)` from its centre."""

    def __init__(self, pixels: Floats, x: Floats, y: Floats, size: int, style: Style) -> None:
        self.pixels, self.x, self.y, self.size, self.style = pixels, x, y, size, style

    def coverage(self, distance: Floats) -> Floats:
        """The part of each pixel inside a shape, from its signed distance at the centre."""
        inside: Floats = np.clip(0.5 - distance * np.float32(self.size), 0.0, 1.0)
        return inside

    def blend(self, coverage: Floats, colour: ArrayLike) -> None:
        """Lay a colour `(3,)` over the window, `coverage (T, h, w)` in [0, 1]."""
        paint = self.style.paint(np.asarray(colour)).astype(np.float32)
        for channel, value in zip(self.pixels, paint, strict=True):
            channel += coverage * (value - channel)

    def fill(self, distance: Floats, colour: ArrayLike) -> None:
        """Fill a shape."""
        self.blend(self.coverage(distance), colour)

    def ink(self, distance: Floats, colour: ArrayLike, outline: ArrayLike) -> None:
        """Fill a shape inside a thin outline that lies within its edge."""
        self.fill(distance, self.style.contour(np.asarray(colour), np.asarray(outline)))
        self.fill(distance + np.float32(self.style.outline), colour)


def over_frames(values: Floats) -> Floats:
    """Values `(T,)` or points `(T, 2)` of each frame, shaped to meet the pixels of a patch."""
    values = np.asarray(values, np.float32)
    return values[:, None, None] if values.ndim == 1 else values[:, None, None, :]


def shadow(canvas: Canvas, centre: Floats, width: float, strength: Floats | float) -> None:
    """Darken the ground softly under an actor.

    `centre` `(T, 2)` lies on the ground; `width` is half the shadow's; `strength` may be `(T,)`.
    """
    strength = over_frames(np.broadcast_to(strength, (canvas.frames,)))
    with canvas.patch(centre, (width, width * 0.25)) as patch:
        falloff = np.maximum(1.0 - (patch.x / width) ** 2 - (patch.y / (width * 0.25)) ** 2, 0.0)
        patch.blend(strength * np.sqrt(falloff), (0.05, 0.05, 0.10))
