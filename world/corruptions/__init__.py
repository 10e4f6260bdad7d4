"""The world gone wrong: each corruption breaks one law of a scene by a known amount.

A corruption has a unit and a nominal value, at which a person sees at once that something is
wrong. It draws what it needs from the scene's seed, so that a larger value breaks the same law at
the same place.
"""

import numpy as np

from world.corruptions import (
    bite,
    camera,
    collision,
    count,
    gravity,
    legs,
    motion,
    objects,
    order,
    pendulum,
    playback,
    shadow,
    text,
    water,
)
from world.corruptions.corruption import COUNTED, WHOLE, Corruption
from world.families import FAMILIES
from world.scene import Scene

CORRUPTIONS: dict[str, Corruption] = {
    **bite.CORRUPTIONS,
    **legs.CORRUPTIONS,
    **objects.CORRUPTIONS,
    **motion.CORRUPTIONS,
    **gravity.CORRUPTIONS,
    **collision.CORRUPTIONS,
    **pendulum.CORRUPTIONS,
    **water.CORRUPTIONS,
    **order.CORRUPTIONS,
    **count.CORRUPTIONS,
    **text.CORRUPTIONS,
    **shadow.CORRUPTIONS,
    **camera.CORRUPTIONS,
    **playback.CORRUPTIONS,
}
NAMES: dict[str, tuple[str, ...]] = {
    family: tuple(name for name, kind in CORRUPTIONS.items() if family in kind.families)
    for family in FAMILIES
}
"""The corruptions that each family can have."""


def corrupt(scene: Scene, name: str, value: float | None = None) -> Scene:
    """The scene with one law broken, by the nominal value unless another is given.

    Raises `ValueError` for a corruption that the scene's family does not have, and for a value that
    the corruption does not take.
    """
    if name not in NAMES[scene.family]:
        allowed = ", ".join(NAMES[scene.family])
        raise ValueError(f"corruption is {name!r}; {scene.family} can have {allowed}")
    kind = CORRUPTIONS[name]
    value = kind.nominal if value is None else value
    if not kind.lowest <= value <= kind.highest or (kind.unit in COUNTED and value % 1 != 0):
        allowed = "1" if kind.unit == WHOLE else f"{kind.lowest:g} to {kind.highest:g} {kind.unit}"
        raise ValueError(f"value of {name!r} is {value:g}; allowed is {allowed}")
    rng = np.random.default_rng([scene.seed, *scene.family.encode(), *name.encode()])
    return kind.apply(scene, value, rng)
