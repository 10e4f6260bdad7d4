"""Melting: the ice that is lost is in the puddle."""

import numpy as np
import pytest

from world import render, sample
from world.palette import ICE, WATER


@pytest.mark.parametrize("seed", range(100))
def test_mass_is_conserved_and_ice_turns_to_water(seed):
    """density * ice + water is constant to round-off; areas are those of the shapes."""
    state = sample("melt", seed).state
    ice, water = state["ice_area"], state["puddle_area"]
    mass = state["density"] * ice + water
    assert mass == pytest.approx(mass[0], abs=1e-12)
    assert (np.diff(ice) < 0).all() and (np.diff(water) > 0).all() and water[0] == 0.0
    assert 0.15 < ice[-1] / ice[0] < 0.8
    assert np.pi * state["puddle"].prod(axis=1) == pytest.approx(water, abs=1e-12)
    half, corner = state["half_side"], state["corner"]
    assert 4 * half**2 - (4 - np.pi) * corner**2 == pytest.approx(ice, abs=1e-12)
    assert np.ptp(np.diff(half)) < 1e-12


@pytest.mark.parametrize("seed", range(100))
def test_all_of_the_cube_and_the_puddle_is_in_view(seed):
    state = sample("melt", seed).state
    wide, deep = state["puddle"][-1]
    assert wide < state["x"] < 1.0 - wide
    assert state["floor"] + 2.0 * deep < 1.0
    assert state["floor"] - 2.0 * state["half_side"][0] > 0.3


@pytest.mark.parametrize("seed", range(8))
def test_pixels_show_both_areas(seed):
    """At 192 pixels the puddle's is within 7 % at the end: its rim is antialiased.

    The face is not ice-coloured, so ice is compared with its own first frame only.
    """
    scene = sample("melt", seed)
    frames = render(scene, 192) / 255.0
    water = (np.linalg.norm(frames - WATER, axis=-1) < 0.25).mean((1, 2))
    ice = (np.linalg.norm(frames - ICE, axis=-1) < 0.12).mean((1, 2))
    assert water[-1] == pytest.approx(float(scene.state["puddle_area"][-1]), rel=0.07)
    assert (np.diff(ice) < 0).all() and (np.diff(water) > 0).all()
