"""A ball too many or too few."""

import numpy as np

from world.corruptions.actors import AWAY
from world.corruptions.corruption import Corruption, length, with_change
from world.scene import Scene

GAP = 2 / 64


def miscount(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """For `value` frames there is a ball more, if the floor has room for it, or a ball less."""
    frames = int(value)
    first = int(rng.integers(2, length(scene) - frames))
    balls, radii = scene.state["balls"], scene.state["radii"]
    x = np.sort(balls[0, :, 0])
    edges = np.array([0.0, *x, 1.0])
    taken = np.array([0.0, *radii[np.argsort(balls[0, :, 0])], 0.0])
    room = np.diff(edges) - taken[:-1] - taken[1:]
    widest, radius = int(np.argmax(room)), float(radii.min())
    if rng.random() < 0.5 and room[widest] > 2.0 * (radius + GAP):
        middle = edges[widest] + taken[widest] + 0.5 * room[widest]
        place = np.broadcast_to((middle, scene.state["floor"] - radius), (len(balls), 1, 2))
        changed = {
            "balls": np.concatenate([balls, place], axis=1),
            "radii": np.append(radii, radius),
            "eyes": np.pad(scene.state["eyes"], ((0, 0), (0, 1)), constant_values=1.0),
        }
    else:
        fewer = balls.copy()
        fewer[:, rng.integers(len(radii))] += AWAY
        changed = {"balls": fewer}
    return with_change(scene, first, first + frames, changed)


CORRUPTIONS = {"miscount": Corruption(miscount, "frames", 4, 1, 12, ("count",))}
