"""From the state of a scene to frames."""

import numpy as np
from numpy.typing import NDArray

from world import shapes
from world.families import FAMILIES
from world.painter import Canvas, Patch
from world.palette import Floats
from world.scene import Scene, State


def render(scene: Scene, size: int = 64) -> NDArray[np.uint8]:
    """The frames of a scene, `(T, size, size, 3)` RGB. Raises `ValueError` for a size below 8."""
    if size < 8:
        raise ValueError(f"size is {size}; it must be 8 pixels or more")
    canvas = Canvas(backdrop(scene.state, size), int(scene.state["frames"]))
    FAMILIES[scene.family].draw(canvas, scene.state)
    frames = (canvas.pixels * 255.0 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(frames.transpose(1, 2, 3, 0))


def backdrop(state: State, size: int) -> Floats:
    """Sky, ornament and ground, `(3, size, size)` in [0, 1]."""
    y = (np.arange(size) + 0.5) / size
    horizon = float(state["horizon"])
    zenith, haze, far, near = state["sky_and_ground"]
    sky = zenith + (haze - zenith) * np.clip(y / horizon, 0.0, 1.0)[:, None]
    ground = far + (near - far) * np.clip((y - horizon) / (1.0 - horizon), 0.0, 1.0)[:, None]
    canvas = Canvas(np.repeat(sky.T[:, :, None], size, axis=2), frames=1)
    with canvas.patch(state["ornament"], (0.2, 0.2)) as patch:
        _ornament(patch, int(state["ornament_kind"]))
    below = np.clip((y - horizon) * size + 0.5, 0.0, 1.0)[None, :, None]
    picture: Floats = canvas.pixels[:, 0] * (1.0 - below) + ground.T[:, :, None] * below
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
