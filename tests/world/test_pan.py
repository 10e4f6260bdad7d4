"""A camera's way past a tree: everything moves against it, the near faster than the far."""

import numpy as np
import pytest

from world import render, sample


@pytest.mark.parametrize("seed", range(100))
def test_everything_moves_against_the_camera_by_its_parallax(seed):
    scene = sample("pan", seed)
    state, camera = scene.state, scene.state["camera"]
    way = 1.0 if scene.slots["direction"] == "right" else -1.0
    assert np.ptp(np.diff(camera)) < 1e-12 and way * np.diff(camera)[0] > 1.3 / 64
    for name, parallax in (
        ("tree", 1.0),
        ("far", state["far_parallax"]),
        ("tufts", state["near_parallax"]),
        ("ornament", state["sky_parallax"]),
    ):
        x = state[name][..., 0]
        gone = (x - x[0]).reshape(17, -1)
        assert gone + parallax * camera[:, None] == pytest.approx(0.0, abs=1e-12)
    assert state["sky_parallax"] <= state["far_parallax"] < 1.0 < state["near_parallax"]
    crown = float(state["crown"])
    assert state["tree"][:, 0].min() > crown and state["tree"][:, 0].max() < 1.0 - crown


@pytest.mark.parametrize("seed", range(30))
def test_hills_and_tufts_fill_the_frame_all_the_time(seed):
    state = sample("pan", seed).state
    for name, widest in (("far", 0.6), ("tufts", 0.45)):
        x = np.sort(state[name][..., 0], axis=1)
        assert (x[:, 0] < 0.3).all() and (x[:, -1] > 0.7).all()
        assert np.diff(x, axis=1).max() < widest


@pytest.mark.parametrize("seed", range(12))
def test_the_background_moves_in_the_pixels(seed):
    """Just above the horizon, away from the tree, a frame fits the first best when it is shifted
    by the hills' own parallax, within two pixels of 128.
    """
    scene = sample("pan", seed, slots={"background": "desert"})
    state = scene.state
    frames = render(scene, 128).astype(float)
    line = frames[:, int(float(state["horizon"]) * 128) - 3].sum(-1)
    tree, crown = state["tree"][:, 0] * 128, float(state["crown"]) * 1.15 * 128
    expected = -float(state["far_parallax"] * state["camera"][8]) * 128
    x = np.arange(128)
    errors = {}
    for shift in range(-26, 27):
        seen = (x + shift >= 0) & (x + shift < 128) & (abs(x - tree[0]) > crown)
        seen &= abs(x + shift - tree[8]) > crown
        if seen.sum() > 32:
            errors[shift] = np.abs(line[0, seen] - line[8, x[seen] + shift]).mean()
    assert abs(min(errors, key=errors.get) - expected) <= 2.0
