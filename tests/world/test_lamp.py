"""A lamp's shadow follows from geometry."""

import numpy as np
import pytest

from world import render, sample


@pytest.mark.parametrize("seed", range(100))
def test_the_ray_over_the_far_corner_meets_the_floor_at_the_tip(seed):
    """Lamp, far upper corner and tip lie on a line: the cross product vanishes to round-off."""
    scene = sample("lamp", seed)
    state = scene.state
    away = 1.0 if scene.slots["direction"] == "left" else -1.0
    corner = state["box"] + state["half_side"] * np.array((away, -1.0))
    tip = np.stack([state["tip"], np.full(17, float(state["floor"]))], 1)
    (ax, ay), (bx, by) = (corner - state["lamp"]).T, (tip - state["lamp"]).T
    assert ax * by - ay * bx == pytest.approx(0.0, abs=1e-12)
    assert away * (state["tip"] - corner[0]) == pytest.approx(state["length"], abs=1e-12)
    assert (state["length"] > 7 / 64).all() and np.ptp(state["length"]) > 9 / 64
    assert (state["tip"] > 1 / 64).all() and (state["tip"] < 63 / 64).all()
    assert away * (state["box"][0] - state["lamp"][0, 0]) > 0
    higher = np.diff(state["lamp"][:, 1]) < 0
    assert (np.diff(state["length"])[higher] < 0).all()
    # between the lamp's post and the box there is light: three pixels at least
    assert away * (state["box"][0] - state["lamp"][0, 0]) - state["half_side"] > 3 / 64


@pytest.mark.parametrize("seed", range(16))
def test_the_shadow_that_is_seen_ends_where_it_should(seed):
    """On the floor's line the ground is darkened up to the tip, within 1.5 pixels of 64."""
    scene = sample("lamp", seed)
    state = scene.state
    frames = render(scene, 128).astype(float).sum(-1)
    row = frames[:, int(float(state["floor"]) * 128)]
    ground = np.median(row, axis=1)
    for t in range(17):
        lit = np.flatnonzero(row[t] > 0.72 * ground[t]) / 128
        beyond = [x for x in lit if state["away"] * (x - state["tip"][t]) > -0.03]
        first = min(beyond, key=lambda x, t=t: abs(x - state["tip"][t]))
        assert abs(first - state["tip"][t]) < 1.5 / 64
