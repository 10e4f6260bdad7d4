"""More faults that no list of corruptions has: what lasts, what is drawn in, how it is played.

Each is a few lines on the state or on the drawn frames, and is caught in both of two scenes. Each
passed the detectors before they were mended, so that each can.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.physics.detectors import judge, read
from world import captions
from world.render import render
from world.scene import Scene, sample

T = np.arange(17)
Frames = np.ndarray


def with_state(scene: Scene, **changed: np.ndarray) -> Scene:
    return replace(scene, state=scene.state | changed)


def during(scene: Scene, first: int, end: int, **changed: np.ndarray) -> Scene:
    return replace(scene, changes=(*scene.changes, (first, end, changed)))


def without_a_leg(scene: Scene) -> dict[str, np.ndarray]:
    kept = np.delete(np.arange(len(scene.state["near"])), 1)
    legs = {name: scene.state[name][:, kept] for name in ("hips", "feet", "stance")}
    return legs | {"near": scene.state["near"][kept]}


def loses_a_leg_for_good(scene: Scene) -> Frames:
    return render(during(scene, 8, 17, **without_a_leg(scene)))


def has_a_leg_that_fades(scene: Scene) -> Frames:
    """From frame 4 to 10 a leg goes over into what is behind it."""
    left = np.clip(1.0 - (T - 4) / 6, 0.0, 1.0)[:, None, None, None]
    gone = render(with_state(scene, **without_a_leg(scene)))
    return np.rint(left * render(scene) + (1.0 - left) * gone).astype(np.uint8)


def walks_on_air(scene: Scene) -> Frames:
    up = np.array((0.0, 8 / 64))
    return render(with_state(scene, **{n: scene.state[n] - up for n in ("body", "hips", "feet")}))


def looks_back(scene: Scene) -> Frames:
    return render(during(scene, 9, 17, facing=-scene.state["facing"]))


def comes_out_late(scene: Scene) -> Frames:
    """The ball stays two frames longer behind the wall than its speed says."""
    ball = scene.state["ball"].copy()
    ball[scene.state["hidden"].mean() < T, 0] -= 2.0 * float(scene.state["velocity"])
    return render(with_state(scene, ball=ball))


def comes_out_higher(scene: Scene) -> Frames:
    up = np.stack([0.0 * T, (scene.state["hidden"].mean() < T) * 5 / 64], 1)
    return render(with_state(scene, ball=scene.state["ball"] - up))


def becomes_a_square(scene: Scene) -> Frames:
    frames = render(during(scene, 9, 17, ball=scene.state["ball"] - 3.0))
    y, x = np.mgrid[:64, :64] + 0.5
    half = 0.886 * 64 * float(scene.state["radius"])
    for t in range(9, 17):
        at = scene.state["ball"][t] * 64
        frames[t][np.maximum(abs(x - at[0]), abs(y - at[1])) < half] = scene.state["colour"] * 255
    return frames


def rises(scene: Scene) -> Frames:
    up = np.stack([0.0 * T, np.maximum(T - 8, 0) / 64], 1)
    return render(with_state(scene, circle=scene.state["circle"] - up))


def falls_through_the_floor(scene: Scene) -> Frames:
    return render(with_state(scene, ball=scene.state["ball"] + (0.0, 10 / 64)))


def slides(scene: Scene) -> Frames:
    return render(during(scene, 9, 17, x=scene.state["x"] + 6 / 64))


def melts_at_once(scene: Scene) -> Frames:
    names = ("half_side", "corner", "puddle")
    return render(with_state(scene, **{n: scene.state[n][np.where(T < 8, 0, 16)] for n in names}))


def jumps(scene: Scene) -> Frames:
    return render(during(scene, 9, 17, text=scene.state["text"] + (3 / 64, 0.0)))


def loses_dots(scene: Scene) -> Frames:
    glyphs = scene.state["glyphs"]
    left = np.random.default_rng(scene.seed).random(glyphs.shape) > 0.3
    return render(during(scene, 6, 12, glyphs=glyphs * left))


def has_grass_that_stands_still(scene: Scene) -> Frames:
    return render(with_state(scene, tufts=np.repeat(scene.state["tufts"][:1], 17, 0)))


def has_a_rod_that_is_cut(scene: Scene) -> Frames:
    """From the middle of the clip on the bob hangs on nothing."""
    frames, bare = render(scene), render(with_state(scene, bob=scene.state["bob"] - 3.0))
    y, x = np.mgrid[:64, :64] + 0.5
    for t in range(8, 17):
        at = scene.state["bob"][t] * 64
        clear = np.hypot(x - at[0], y - at[1]) > 64 * float(scene.state["radius"]) + 1.5
        rod = clear & (y > 64 * scene.state["pivot"][1] + 3) & (y < at[1])
        frames[t][rod] = bare[t][rod]
    return frames


def grows(scene: Scene) -> Frames:
    return render(during(scene, 1, 17, cookie_radius=scene.state["cookie_radius"] * 1.3))


def has_a_monster_that_shrinks(scene: Scene) -> Frames:
    return render(during(scene, 10, 17, radius=scene.state["radius"] * 0.6))


def holds_every_third_frame(scene: Scene) -> Frames:
    return render(scene)[T - (T % 3 == 2)]


def flickers(scene: Scene) -> Frames:
    frames = render(scene)
    frames[1::2] = (0.8 * frames[1::2]).astype(np.uint8)
    return frames


def is_paid_a_visit(scene: Scene) -> Frames:
    frames = render(scene)
    frames[5:12, 10:18, 4:12] = (250, 20, 200)
    return frames


def is_seen_upside_down(scene: Scene) -> Frames:
    return np.ascontiguousarray(render(scene)[:, ::-1])


def leaves_from_the_middle(scene: Scene) -> Frames:
    """Gone in full view, and back at the border."""
    away = {n: scene.state[n] - 3.0 for n in ("body", "hips", "feet")}
    return render(during(scene, 6, 10, **away))


FAULTS: list[tuple[str, Callable[[Scene], Frames]]] = [
    ("walk", loses_a_leg_for_good),
    ("walk", has_a_leg_that_fades),
    ("cat_and_ball", loses_a_leg_for_good),
    ("walk", walks_on_air),
    ("walk", looks_back),
    ("walk", holds_every_third_frame),
    ("walk", leaves_from_the_middle),
    ("hide", comes_out_late),
    ("hide", comes_out_higher),
    ("roll", becomes_a_square),
    ("two_balls", becomes_a_square),
    ("beside", rises),
    ("beside", flickers),
    ("drop", falls_through_the_floor),
    ("melt", slides),
    ("melt", melts_at_once),
    ("sign", jumps),
    ("sign", loses_dots),
    ("pan", has_grass_that_stands_still),
    ("swing", has_a_rod_that_is_cut),
    ("bite", grows),
    ("bite", has_a_monster_that_shrinks),
    ("bite", is_paid_a_visit),
    ("hit", holds_every_third_frame),
    ("count", is_seen_upside_down),
]


@pytest.mark.parametrize(("family", "fault"), FAULTS)
def test_a_fault_that_lasts_or_is_drawn_in_is_caught(
    family: str, fault: Callable[[Scene], Frames]
) -> None:
    for seed in (53000, 53001):
        scene = sample(family, seed)
        expect = captions.parse(scene.caption)
        assert expect is not None
        found = judge(read(fault(scene), family, expect))
        assert not found.passed, (seed, found.figures)
