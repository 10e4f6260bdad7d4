"""Faults that no list of corruptions has: the detectors know laws, not the faults they were shown.

Each is a few lines on the exact state of a scene, and is caught in every one of three scenes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.physics.detectors import judge, read
from world import captions
from world.palette import COLOURS
from world.render import render
from world.scene import Scene, sample

FRAMES = 17
T = np.arange(FRAMES)


def with_state(scene: Scene, **changed: np.ndarray) -> Scene:
    return replace(scene, state=scene.state | changed)


def during(scene: Scene, first: int, end: int, **changed: np.ndarray) -> Scene:
    return replace(scene, changes=(*scene.changes, (first, end, changed)))


def steps_aside(scene: Scene) -> Scene:
    """The ball is 3 pixels further on from the middle of the clip."""
    ball = scene.state["ball"].copy()
    ball[8:, 0] += np.sign(ball[-1, 0] - ball[0, 0]) * 3 / 64
    return with_state(scene, ball=ball)


def halts_for_a_frame(scene: Scene) -> Scene:
    """In the middle of the clip a frame comes twice, and all after it a frame late."""
    order = np.where(T < 8, T, T - 1)
    return replace(scene, retouches=(lambda frames: np.ascontiguousarray(frames[order]),))


def changes_colours_with_the_other(scene: Scene) -> Scene:
    """From the middle of the clip on the two have each other's colour."""
    state = scene.state
    return during(scene, 8, 17, colour=state["other_colour"], other_colour=state["colour"])


def is_gone_before_the_wall(scene: Scene) -> Scene:
    """The ball is out of sight two frames before it gets behind the wall."""
    first = int(
        scene.state["hidden"][0] - 2.0 * scene.state["radius"] / abs(scene.state["velocity"])
    )
    return during(scene, first - 1, first + 1, ball=scene.state["ball"] - 3.0)


def fades_into_another_colour(scene: Scene) -> Scene:
    """The ball goes evenly to another colour and is there at the end."""
    other = np.array(COLOURS["purple" if scene.slots["colour"] != "purple" else "yellow"])
    for t in range(FRAMES):
        colour = scene.state["colour"] + t / (FRAMES - 1) * (other - scene.state["colour"])
        scene = during(scene, t, t + 1, colour=colour)
    return scene


def loses_a_leg(scene: Scene) -> Scene:
    """A leg lies 5 pixels below and 4 behind its hip for two frames."""
    legs = {name: scene.state[name].copy() for name in ("hips", "feet")}
    for place in legs.values():
        place[:, 0] += (-float(scene.state["facing"]) * 9 / 64, 5 / 64)
    return during(scene, 7, 9, **legs)


def is_squashed(scene: Scene) -> Scene:
    """The frames are drawn with the ball's place stretched: 1.35 as wide, as a flat disc, at rest
    in the air for the last four frames."""

    def flat(frames: np.ndarray) -> np.ndarray:
        out = frames.copy()
        radius = float(scene.state["radius"]) * 64
        for t in range(6, 10):
            x, y = scene.state["ball"][t] * 64
            rows = np.clip((np.arange(64) + 0.5 - y) * 1.35 + y, 0, 63).astype(int)
            columns = np.clip((np.arange(64) + 0.5 - x) / 1.35 + x, 0, 63).astype(int)
            moved = frames[t][rows][:, columns]
            box = np.hypot(*np.meshgrid(np.arange(64) + 0.5 - x, np.arange(64) + 0.5 - y))
            near = box < 1.5 * radius
            out[t][near] = moved[near]
        return out

    return replace(scene, retouches=(flat,))


def shadow_lags(scene: Scene) -> Scene:
    """The shadow is where it should have been four frames ago."""
    ago = np.maximum(T - 4, 0)
    return with_state(scene, tip=scene.state["tip"][ago], length=scene.state["length"][ago])


def swaps_two_letters(scene: Scene) -> Scene:
    """The middle letters change places for two frames."""
    return during(scene, 9, 11, glyphs=scene.state["glyphs"][[0, 2, 1, 3]])


def doubles_for_a_frame(scene: Scene) -> Scene:
    """In one frame there is a second ball, 20 pixels from the first."""
    twin = np.full((FRAMES, 2), -3.0)
    x = scene.state["ball"][8, 0]
    twin[8] = scene.state["ball"][8] + (20 / 64 if x < 0.5 else -20 / 64, 0.0)
    return replace(scene, extras=({"ball": twin},))


def is_blown_aside(scene: Scene) -> Scene:
    """While it falls and bounces the ball is pulled sideways, 12 pixels in all."""
    ball = scene.state["ball"].copy()
    way = 1.0 if ball[0, 0] < 0.5 else -1.0
    ball[:, 0] += way * 12 / 64 * (T / (FRAMES - 1)) ** 2
    return with_state(scene, ball=ball)


def hangs_for_a_while(scene: Scene) -> Scene:
    """The pendulum stands still for three frames and then swings on."""
    order = np.where(T < 6, T, np.maximum(6, T - 3))
    return with_state(scene, bob=scene.state["bob"][order], angle=scene.state["angle"][order])


def grow(scene: Scene) -> Scene:
    """All balls grow evenly, by a third in radius at the end."""
    for t in range(FRAMES):
        factor = 1.0 + t / (FRAMES - 1) / 3
        radii = scene.state["radii"] * factor
        up = np.zeros_like(scene.state["balls"])
        up[..., 1] = scene.state["radii"] - radii
        scene = during(scene, t, t + 1, radii=radii, balls=scene.state["balls"] + up)
    return scene


def slide(scene: Scene) -> Scene:
    """The balls that should stay drift by 6 pixels."""
    balls = scene.state["balls"].copy()
    free = 1.0 - (balls[0, :, 0] + scene.state["radii"]).max()
    way = 1.0 if free > 6 / 64 else -1.0
    balls[..., 0] += way * 6 / 64 * T[:, None] / (FRAMES - 1)
    return with_state(scene, balls=balls)


def floats(scene: Scene) -> Scene:
    """The ball rolls through the air, 12 pixels above the ground."""
    return with_state(scene, ball=scene.state["ball"] - (0.0, 12 / 64))


def moonwalks(scene: Scene) -> Scene:
    """The cat walks the way that its tail points."""
    return replace(scene, retouches=(lambda frames: np.ascontiguousarray(frames[::-1]),))


def is_pushed_too_soon(scene: Scene) -> Scene:
    """The resting ball sets off three frames before it is touched."""
    target, early = scene.state["target"].copy(), float(scene.state["contact"]) - 3.0
    target[:, 0] = target[0, 0] + float(scene.state["after"][1]) * np.maximum(T - early, 0.0)
    return with_state(scene, target=target)


def shrinks_by_itself(scene: Scene) -> Scene:
    """The cookie gets smaller all the time, monster or not, to half its radius."""
    for t in range(FRAMES):
        radius = scene.state["cookie_radius"] * (1.0 - 0.5 * t / (FRAMES - 1))
        scene = during(scene, t, t + 1, cookie_radius=np.array(radius))
    return scene


FAULTS: list[tuple[str, Callable[[Scene], Scene]]] = [
    ("roll", steps_aside),
    ("roll", halts_for_a_frame),
    ("two_balls", changes_colours_with_the_other),
    ("cat_and_ball", changes_colours_with_the_other),
    ("hide", is_gone_before_the_wall),
    ("roll", fades_into_another_colour),
    ("drop", fades_into_another_colour),
    ("walk", loses_a_leg),
    ("drop", is_squashed),
    ("lamp", shadow_lags),
    ("sign", swaps_two_letters),
    ("roll", doubles_for_a_frame),
    ("hide", doubles_for_a_frame),
    ("drop", is_blown_aside),
    ("swing", hangs_for_a_while),
    ("count", grow),
    ("count", slide),
    ("roll", floats),
    ("hide", floats),
    ("walk", moonwalks),
    ("hit", is_pushed_too_soon),
    ("bite", shrinks_by_itself),
]


@pytest.mark.parametrize(("family", "fault"), FAULTS)
def test_a_fault_that_no_list_has_is_caught(family: str, fault: Callable[[Scene], Scene]) -> None:
    for seed in (11, 12, 13):
        scene = sample(family, seed)
        expect = captions.parse(scene.caption)
        assert expect is not None
        found = judge(read(render(fault(scene)), family, expect))
        assert not found.passed, (seed, found.figures)
