"""Balls that change their speed, and balls that do not come out where they should."""

import numpy as np

from world.corruptions.actors import AWAY
from world.corruptions.corruption import Corruption, length, sometime, whole, with_state
from world.scene import Scene


def slows(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """From some frame on the ball is `value` per cent slower."""
    ball, start = scene.state["ball"].copy(), sometime(scene, rng)
    lost = value / 100.0 * float(scene.state["velocity"])
    behind = lost * np.maximum(np.arange(length(scene)) - start, 0)
    ball[:, 0] -= behind
    turn = scene.state["turn"] - behind / float(scene.state["radius"])
    return with_state(scene, ball=ball, turn=turn)


def never_emerges(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The ball is gone once it is behind the wall."""
    after = np.arange(length(scene)) > scene.state["hidden"].mean()
    return with_state(scene, ball=scene.state["ball"] + after[:, None] * AWAY)


def wrong_side(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The ball comes out where it went in, as if it had met a mirror behind the wall."""
    after = np.arange(length(scene)) > scene.state["hidden"].mean()
    ball, turn = scene.state["ball"].copy(), scene.state["turn"].copy()
    ball[after, 0] = 2.0 * scene.state["wall"][0] - ball[after, 0]
    turn[after] = -turn[after]
    return with_state(scene, ball=ball, turn=turn)


CORRUPTIONS = {
    "slows": Corruption(slows, "per cent", 50, -30, 100, ("roll", "two_balls", "cat_and_ball")),
    "never_emerges": whole(never_emerges, "hide"),
    "wrong_side": whole(wrong_side, "hide"),
}
