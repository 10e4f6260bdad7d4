"""Collisions that lose momentum, gain energy or do not take place."""

import numpy as np

from world.corruptions.corruption import Corruption, length, whole, with_state
from world.palette import Floats
from world.scene import Scene


def no_transfer(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """Of the momentum of both balls after contact `value` (0 to 1) is missing."""
    return _with_speeds(scene, (1.0 - value) * scene.state["after"])


def energy_gain(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The balls part with `value` per cent more energy than came in."""
    return _with_speeds(scene, np.sqrt(1.0 + value / 100.0) * scene.state["after"])


def pass_through(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The ball rolls on as if there were nothing in its way."""
    return _with_speeds(scene, scene.state["before"])


def _with_speeds(scene: Scene, after: Floats) -> Scene:
    """The scene with other speeds `(2,)` after contact."""
    since = np.maximum(np.arange(length(scene)) - scene.state["contact"], 0.0)[:, None]
    more = since * (after - scene.state["after"])
    paths = {
        name: scene.state[name] + more[:, k : k + 1] * (1.0, 0.0)
        for k, name in enumerate(("mover", "target"))
    }
    turn = scene.state["turn"] + more / scene.state["radii"]
    return with_state(scene, after=after, turn=turn, **paths)


CORRUPTIONS = {
    "no_transfer": Corruption(no_transfer, "share", 1, 0.1, 1, ("hit",)),
    "energy_gain": Corruption(energy_gain, "per cent", 40, 5, 100, ("hit",)),
    "pass_through": whole(pass_through, "hit"),
}
