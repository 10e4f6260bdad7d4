"""Pendulums whose rod is not rigid or whose period changes."""

import numpy as np

from world.corruptions.corruption import Corruption, length, sometime, with_state
from world.palette import Floats
from world.scene import Scene
from world.timing import smoothstep


def rod_stretch(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """Within six frames the rod becomes `value` per cent longer."""
    begin = sometime(scene, rng) - 3
    grown = 1.0 + value / 100.0 * smoothstep((np.arange(length(scene)) - begin) / 6.0)
    return with_state(scene, bob=_bob(scene, scene.state["angle"], grown))


def period_drift(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """From a third of the clip on the pendulum swings `value` per cent faster."""
    state = scene.state
    t = np.arange(length(scene), dtype=np.float64)
    ahead = value / 100.0 * np.maximum(t - length(scene) // 3, 0.0)
    swing = np.cos(state["omega"] * (t + ahead) + state["phase"])
    angle = state["amplitude"] * np.exp(-state["damping"] * t) * swing
    return with_state(scene, angle=angle, bob=_bob(scene, angle, np.ones(length(scene))))


def _bob(scene: Scene, angle: Floats, grown: Floats) -> Floats:
    """Where the bob hangs `(T, 2)` for angles and lengths of the rod `(T,)`."""
    direction = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    bob: Floats = scene.state["pivot"] + scene.state["length"] * grown[:, None] * direction
    return bob


CORRUPTIONS = {
    "rod_stretch": Corruption(rod_stretch, "per cent", 25, -50, 50, ("swing",)),
    "period_drift": Corruption(period_drift, "per cent", 50, -50, 100, ("swing",)),
}
