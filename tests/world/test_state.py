"""The exact state obeys its physics, frame by frame."""

import numpy as np
import pytest

from world import NUM_FRAMES, sample

SEEDS = range(200)
PIXEL = 1 / 64


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dropped_ball_has_constant_gravity_and_restitution(seed):
    """Within a flight the second difference of the path is g exactly; 1e-9 is float64 round-off.

    The speed just after an impact is e times the speed just before, both read from the path.
    """
    state = sample("drop", seed).state
    y, g, release = state["ball"][:, 1], float(state["gravity"]), float(state["release"])
    impacts = state["impacts"]
    assert np.ptp(state["ball"][:, 0]) == 0.0
    t = np.arange(NUM_FRAMES)
    flight = np.searchsorted(impacts, t, side="right") + (t >= release)
    speeds = []
    for number in range(1, len(impacts) + 2):
        inside = np.flatnonzero(flight == number)
        if len(inside) >= 3:
            assert np.diff(y[inside], 2) == pytest.approx(g, abs=1e-9)
        if len(inside) >= 2:
            a, b = inside[:2]
            v = (y[b] - y[a]) / (b - a)  # the speed half way between two frames of a parabola
            speeds.append((number, v - g * (a + b) / 2))
    for (n, before), (m, after) in zip(speeds, speeds[1:], strict=False):
        if m == n + 1:
            at = impacts[n - 1]
            ratio = -(after + g * at) / (before + g * at)
            assert ratio == pytest.approx(float(state["restitution"]), abs=1e-6)
    lowest = float(state["floor"]) - float(state["radius"])
    assert y.max() <= lowest + 1e-9
    assert 6.0 <= impacts[0] - release <= 10.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("legs", [2, 4])
def test_a_foot_on_the_ground_does_not_slip(legs, seed):
    """Below 0.3 pixels a frame is asked; the state has none but round-off."""
    scene = sample("walk", seed, slots={"legs": {2: "two", 4: "four"}[legs]})
    state = scene.state
    feet, stance = state["feet"], state["stance"] > 0
    standing = stance[1:] & stance[:-1]
    # A foot that lifted and landed between two frames would look like a slip: none is so quick.
    steps = np.abs(np.diff(feet[..., 0], axis=0))
    assert steps[standing].max() < 1e-9
    assert np.ptp(feet[..., 1][stance].reshape(-1)) < 1.0 * PIXEL
    assert stance.sum(1).min() >= legs / 2
    travel = state["body"][-1, 0] - state["body"][0, 0]
    assert np.sign(travel) == (1 if scene.slots["direction"] == "right" else -1)
    assert 12 * PIXEL <= abs(travel) <= 26 * PIXEL
    # diagonal gait: the near hind and far front foot, and the other two, are in the same phase
    if legs == 4:
        assert (stance[:, 0] == stance[:, 3]).all() and (stance[:, 1] == stance[:, 2]).all()
    height = state["body"][:, 1]
    assert height.std() / (state["floor"] - height.mean()) < 0.04


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bite_happens_at_contact_and_the_monster_leaves_it_in_view(seed):
    scene = sample("bite", seed, slots={"times": "once"})
    state = scene.state
    bitten = state["bitten"][:, 0]
    assert (np.diff(bitten) >= 0).all() and bitten[0] == 0.0 and bitten[-1] == 1.0
    first = int(np.argmax(bitten))
    assert first == np.ceil(state["contact"][0])
    side = -1.0 if scene.slots["direction"] == "left" else 1.0
    front = side * (state["monster"][:, 0] - side * state["radius"] - state["cookie"][0])
    gap = front - state["cookie_radius"]
    assert front[first] < state["cookie_radius"] - 0.9 * state["bite_radius"][0]
    assert gap[0] > 10 * PIXEL and (gap[-3:] > 2 * PIXEL).all()
    assert side * (state["bite_centre"][0, 0] - state["cookie"][0]) > 0
    assert 0.5 <= state["bite_radius"][0] / state["cookie_radius"] <= 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_two_bites_come_one_after_the_other_and_stay_apart(seed):
    """Each with its contact, at least three frames from the other, a strip of cookie between."""
    state = sample("bite", seed, slots={"times": "twice"}).state
    bitten, contact = state["bitten"], state["contact"]
    assert bitten.shape == (NUM_FRAMES, 2)
    assert (np.diff(bitten, axis=0) >= 0).all() and not bitten[0].any() and bitten[-1].all()
    assert (np.argmax(bitten, axis=0) == np.ceil(contact)).all()
    assert contact[1] - contact[0] >= 3.0
    between = np.linalg.norm(np.diff(state["bite_centre"], axis=0))
    assert between > state["bite_radius"].sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_square_and_circle_keep_their_order_and_their_distance(seed):
    scene = sample("beside", seed)
    state = scene.state
    gap = state["square"][:, 0] - state["circle"][:, 0]
    side = 1.0 if scene.slots["direction"] == "right" else -1.0
    assert (side * gap > state["half_side"] + state["radius"]).all()
    for name in ("square", "circle"):
        drift = np.diff(state[name][:, 0])
        assert np.abs(drift).max() <= 0.5 * PIXEL + 1e-12
    assert scene.slots["colour"] != scene.slots["other_colour"]
