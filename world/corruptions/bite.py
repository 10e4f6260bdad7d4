"""Bites that heal, are not there, are elsewhere, or come too soon."""

import math

import numpy as np

from world.corruptions.corruption import Corruption, length, with_state
from world.scene import Scene


def bite_heals(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """Each bite is whole again `value` frames after it."""
    t = np.arange(length(scene))[:, None]
    taken = scene.state["bitten"] * (t < np.ceil(scene.state["contact"]) + value)
    return with_state(scene, bitten=taken)


def bite_absent(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The last `value` bites leave nothing."""
    bitten = scene.state["bitten"].copy()
    bitten[:, -int(value) :] = 0.0
    return with_state(scene, bitten=bitten)


def bite_moved(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The bites are `value` degrees along the rim from the mouth, upwards."""
    cookie = scene.state["cookie"]
    out = scene.state["bite_centre"] - cookie
    angle = math.radians(value) * np.sign(out[0, 0]) * -1.0
    cos, sin = math.cos(angle), math.sin(angle)
    turned = np.stack(
        [cos * out[:, 0] - sin * out[:, 1], sin * out[:, 0] + cos * out[:, 1]], axis=1
    )
    return with_state(scene, bite_centre=cookie + turned)


def bite_early(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The bites are there `value` frames before the mouth is."""
    t = np.arange(length(scene))[:, None]
    bitten = (t >= np.ceil(scene.state["contact"]) - value).astype(np.float64)
    return with_state(scene, bitten=bitten)


CORRUPTIONS = {
    "bite_heals": Corruption(bite_heals, "frames", 3, 1, 8, ("bite",)),
    "bite_absent": Corruption(bite_absent, "bites", 1, 1, 2, ("bite",)),
    "bite_moved": Corruption(bite_moved, "degrees", 100, 20, 180, ("bite",)),
    "bite_early": Corruption(bite_early, "frames", 4, 1, 8, ("bite",)),
}
