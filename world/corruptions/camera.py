"""A world that does not move as the camera does."""

import numpy as np

from world.corruptions.corruption import length, whole, with_state
from world.scene import Scene


def background_still(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """Only the tree goes by: all else stands still."""
    middle = length(scene) // 2
    names = ("far", "tufts", "ornament")
    still = {
        name: np.broadcast_to(scene.state[name][middle], scene.state[name].shape) for name in names
    }
    return with_state(scene, **still)


CORRUPTIONS = {"background_still": whole(background_still, "pan")}
