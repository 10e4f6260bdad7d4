"""Shadows that do not obey the light."""

import numpy as np

from world.corruptions.corruption import Corruption, whole, with_state
from world.palette import Floats
from world.scene import Scene


def shadow_side(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The shadow lies on the side of the lamp."""
    return with_state(scene, tip=2.0 * scene.state["box"][0] - scene.state["tip"])


def shadow_length(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The shadow is `value` per cent longer than the light makes it, or shorter if negative."""
    return _with_length(scene, (1.0 + value / 100.0) * scene.state["length"])


def shadow_trend(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The shadow grows while it should shrink, and the reverse."""
    return _with_length(scene, scene.state["length"][::-1].copy())


def _with_length(scene: Scene, length: Floats) -> Scene:
    far = scene.state["box"][0] + scene.state["away"] * scene.state["half_side"]
    return with_state(scene, length=length, tip=far + scene.state["away"] * length)


CORRUPTIONS = {
    "shadow_side": whole(shadow_side, "lamp"),
    "shadow_length": Corruption(shadow_length, "per cent", -50, -80, 80, ("lamp",)),
    "shadow_trend": whole(shadow_trend, "lamp"),
}
