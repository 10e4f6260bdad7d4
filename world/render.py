"""From the state of a scene to frames."""

import numpy as np
from numpy.typing import NDArray

from world import shapes
from world.families import FAMILIES
from world.painter import Canvas, Patch, margins
from world.palette import Floats
from world.scene import Scene, State
from world.style import STYLES, Style

Size = int | tuple[int, int]
"""Pixels: the side of a square, or height and width."""


def render(scene: Scene, size: Size = 64, style: str = "plain") -> NDArray[np.uint8]:
    """The frames of a scene, `(T, height, width, 3)` RGB.

    Where a frame is not square, all of the scene is in the middle, and more of its surroundings is
    seen beside it, or above and below. A style changes the look of every pixel and none of the
    state: "plain" is the world's own, "outline" has black contours and another palette of the same
    named colours. Raises `ValueError` for a size below 8 or an unknown style.
    """
    shape = (size, size) if isinstance(size, int) else size
    if min(shape) < 8:
        raise ValueError(f"size is {size}; it must be 8 pixels or more")
    if style not in STYLES:
        raise ValueError(f"style is {style!r}; allowed are {', '.join(STYLES)}")
    frames = _draw(scene, scene.state, shape, STYLES[style])
    for first, end, changed in scene.changes:
        another = _draw(scene, scene.state | changed, shape, STYLES[style])
        frames[first:end] = another[first:end]
    for retouch in scene.retouches:
        frames = retouch(frames)
    return frames


def _draw(scene: Scene, state: State, shape: tuple[int, int], style: Style) -> NDArray[np.uint8]:
    canvas = Canvas(backdrop(state, shape, style), int(state["frames"]), style)
    for extra in ({}, *scene.extras):
        FAMILIES[scene.family].draw(canvas, state | extra)
    frames = (canvas.pixels * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(frames.transpose(1, 2, 3, 0))


def backdrop(state: State, shape: tuple[int, int], style: Style = STYLES["plain"]) -> Floats:
    """Sky, ornament and ground, `(3, T, height, width)` in [0, 1]; T is 1 where nothing moves."""
    height, width = shape
    size = min(shape)
    y = (np.arange(height) + 0.5) / size - margins((width, height))[1]
    horizon = float(state["horizon"])
    zenith, haze, far, near = (style.paint(colour) for colour in state["sky_and_ground"])
    sky = zenith + (haze - zenith) * np.clip(y / horizon, 0.0, 1.0)[:, None]
    ground = far + (near - far) * np.clip((y - horizon) / (1.0 - horizon), 0.0, 1.0)[:, None]
    ornament = np.atleast_2d(state["ornament"])
    canvas = Canvas(np.repeat(sky.T[:, None, :, None], width, axis=3), frames=len(ornament))
    with canvas.patch(ornament, (0.2, 0.2)) as patch:
        _ornament(patch, int(state["ornament_kind"]))
    below = np.clip((y - horizon) * size + 0.5, 0.0, 1.0)[:, None]
    picture: Floats = canvas.pixels * (1.0 - below) + ground.T[:, None, :, None] * below
    return picture


def _ornament(patch: Patch, kind: int) -> None:
    """A cloud, sun, moon or window, faint enough that it is never taken for an actor."""
    x, y = patch.x, patch.y
    if kind == 0:
        puffs = [shapes.circle(x - dx, y - dy, r) for dx, dy, r in CLOUD]
        distance = shapes.union(*puffs)
    elif kind == 1:
        distance = shapes.circle(x, y, 0.09)
    elif kind == 2:
        distance = np.maximum(shapes.circle(x, y, 0.085), -shapes.circle(x - 0.045, y + 0.02, 0.07))
    else:
        pane = shapes.box(x, y, 0.11, 0.015)
        distance = np.maximum(pane, 0.008 - np.minimum(np.abs(x), np.abs(y)))
    patch.pixels += 0.05 * patch.coverage(distance)
    np.minimum(patch.pixels, 1.0, out=patch.pixels)


CLOUD = ((-0.08, 0.01, 0.045), (0.0, -0.01, 0.065), (0.085, 0.012, 0.042))
