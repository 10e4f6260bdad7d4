"""Balls that fall up, fall by another law from some time on, or hang in the air."""

import numpy as np

from world.corruptions.corruption import Corruption, length, whole, with_state
from world.palette import Floats
from world.scene import Scene


def gravity_reversed(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The ball's height is turned upside down: it falls from the floor to the top."""
    ball = scene.state["ball"].copy()
    lowest = float(scene.state["floor"] - scene.state["radius"])
    ball[:, 1] = lowest + ball[0, 1] - ball[:, 1]
    return with_state(scene, ball=ball)


def gravity_changed(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """From half way through the first fall on gravity is `value` times what it was."""
    state = scene.state
    release, fall = float(state["release"]), float(state["impacts"][0] - state["release"])
    gravity, turn = float(state["gravity"]), release + 0.5 * fall
    lowest = float(state["floor"] - state["radius"])
    height = lowest - float(state["ball"][0, 1]) - 0.125 * gravity * fall**2
    above, impacts = _fall(
        height, 0.5 * gravity * fall, value * gravity, float(state["restitution"]), turn, scene
    )
    ball = state["ball"].copy()
    late = np.arange(length(scene)) >= turn
    ball[late, 1] = lowest - above[late]
    return with_state(scene, ball=ball, impacts=impacts)


def _fall(
    height: float, speed: float, gravity: float, restitution: float, start: float, scene: Scene
) -> tuple[Floats, Floats]:
    """Height `(T,)` from time `start` on of a ball that falls at a speed, and its impacts."""
    t = np.arange(length(scene), dtype=np.float64)
    above = height - speed * (t - start) - 0.5 * gravity * (t - start) ** 2
    impact = start + (np.sqrt(speed**2 + 2.0 * gravity * height) - speed) / gravity
    speed = float(np.sqrt(speed**2 + 2.0 * gravity * height))
    impacts = []
    while impact < length(scene):
        impacts.append(impact)
        speed *= restitution
        since = t - impact
        above = np.where(since >= 0, speed * since - 0.5 * gravity * since**2, above)
        impact += 2.0 * speed / gravity
    return above, np.array(impacts)


def hover(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The ball hangs still for `value` frames two thirds of the way through its first fall."""
    release, impact = float(scene.state["release"]), float(scene.state["impacts"][0])
    frame = int(release + 0.67 * (impact - release))
    t = np.arange(length(scene))
    late = np.where(t <= frame, t, np.maximum(frame, t - int(value)))
    impacts = scene.state["impacts"] + value
    return with_state(
        scene, ball=scene.state["ball"][late], impacts=impacts[impacts < length(scene)]
    )


CORRUPTIONS = {
    "gravity_reversed": whole(gravity_reversed, "drop", "order"),
    "gravity_changed": Corruption(gravity_changed, "times", 1.5, 0.4, 3, ("drop",)),
    "hover": Corruption(hover, "frames", 4, 1, 7, ("drop",)),
}
