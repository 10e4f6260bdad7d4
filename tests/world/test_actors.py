"""Events in order, balls to count, and two actors each of its own colour and way."""

import numpy as np
import pytest

from tests.world.test_motion import in_view, silhouette, uniform
from world import NUM_FRAMES, sample
from world.families import count, order

SEEDS = range(200)
PIXEL = 1 / 64


@pytest.mark.parametrize("seed", SEEDS)
def test_the_ball_has_fallen_before_the_square_moves(seed):
    scene = sample("order", seed)
    state = scene.state
    g, release, landing, start = (
        float(state[k]) for k in ("gravity", "release", "landing", "start")
    )
    ball, t = state["ball"], np.arange(NUM_FRAMES)
    falling = (t >= release) & (t <= landing)
    assert np.diff(ball[falling, 1], 2) == pytest.approx(g, abs=1e-12)
    assert (ball[t <= release, 1] == ball[0, 1]).all() and (t <= release).sum() >= 2
    rest = float(state["floor"] - state["radius"])
    assert ball[t >= landing, 1] == pytest.approx(rest, abs=1e-12)
    assert 0.5 * g * (landing - release) ** 2 == pytest.approx(rest - ball[0, 1], rel=1e-9)
    assert start >= landing + 1.5
    still, moving = state["square"][t <= start], state["square"][t >= start]
    assert (still == still[0]).all() and len(moving) >= 6
    velocity = float(state["velocity"])
    assert uniform(moving, velocity)
    assert (velocity < 0) == (scene.slots["direction"] == "left")
    assert abs(moving[-1, 0] - still[0, 0]) > 10 * PIXEL
    gap = np.abs(state["square"][:, 0] - ball[0, 0]) - state["radius"] - state["half_side"]
    assert gap.min() >= order.CLEARANCE - 1e-12
    assert in_view(ball, float(state["radius"]))
    assert in_view(state["square"], float(state["half_side"]))


@pytest.mark.parametrize("seed", SEEDS)
def test_as_many_balls_as_the_caption_says_stay_apart(seed):
    scene = sample("count", seed)
    balls, radii = scene.state["balls"], scene.state["radii"]
    assert balls.shape == (NUM_FRAMES, count.NUMBERS[scene.slots["number"]], 2)
    assert (balls == balls[0]).all()
    edges = np.stack([balls[0, :, 0] - radii, balls[0, :, 0] + radii], 1)
    assert edges[0, 0] >= PIXEL and edges[-1, 1] <= 1 - PIXEL
    assert (edges[1:, 0] - edges[:-1, 1]).min() >= count.GAP - 1e-12
    assert radii.min() * 2 >= 7 * PIXEL
    assert ((scene.state["eyes"] == 0).sum(0) == 2).all()


@pytest.mark.parametrize("family", ["cat_and_ball", "two_balls"])
@pytest.mark.parametrize("seed", SEEDS)
def test_each_actor_goes_its_own_way(family, seed):
    """Both travel at least 10 pixels in the direction that belongs to them."""
    scene = sample(family, seed)
    names = ("body", "ball") if family == "cat_and_ball" else ("ball", "other_ball")
    for name, direction in zip(names, ("direction", "other_direction"), strict=True):
        x = scene.state[name][:, 0]
        forward = -1.0 if scene.slots[direction] == "left" else 1.0
        assert forward * (x[-1] - x[0]) > 10 * PIXEL
        assert (forward * np.diff(x) > 0).all()
    assert scene.slots["colour"] != scene.slots["other_colour"]


@pytest.mark.parametrize("family", ["order", "cat_and_ball", "two_balls", "beside", "hit"])
def test_two_actors_never_cover_each_other(family):
    """A column or a row of pixels between them shows neither; balls that collide may touch."""
    for seed in range(12):
        scene = sample(family, seed)
        first, second = (silhouette(scene, name) > 0 for name in ("colour", "other_colour"))
        if family != "hit":
            for axis in (1, 2):  # a pixel more on every side
                first = first | np.roll(first, 1, axis) | np.roll(first, -1, axis)
        both = (first & second).sum((1, 2))
        assert both.max() <= (8 if family == "hit" else 0)


def test_all_pairs_of_colours_and_ways_are_met():
    """Of 56 pairs of colours and 4 of directions, 800 seeds miss one about once in 10^4."""
    scenes = [sample("two_balls", seed).slots for seed in range(800)]
    assert len({(s["colour"], s["other_colour"]) for s in scenes}) == 56
    assert len({(s["direction"], s["other_direction"]) for s in scenes}) == 4
