"""Pouring: no water is lost, and what the state says is what the pixels show."""

import numpy as np
import pytest

from world import render, sample
from world.palette import WATER

SEEDS = range(100)
ROUND_OFF = 1e-12


def source_corners(state):
    """The inner corners of the tilted cup in every frame `(T, 4, 2)`: lip, base, base, rim."""
    width, height = state["source_size"]
    toward, tilt = float(state["toward"]), state["tilt"]
    down = np.stack([-toward * np.sin(tilt), np.cos(tilt)], 1)
    back = np.stack([-toward * np.cos(tilt), -np.sin(tilt)], 1)
    lip = state["lip"]
    base = lip + height * down
    return np.stack([lip, base, base + width * back, lip + width * back], 1)


def area_below(corners, level):
    """The area of a convex polygon `(N, 2)` below a height y (Sutherland and Hodgman 1974)."""
    kept = []
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if ay >= level:
            kept.append((ax, ay))
        if (ay >= level) != (by >= level):
            part = (level - ay) / (by - ay)
            kept.append((ax + part * (bx - ax), level))
    x, y = np.array(kept).T
    return 0.5 * abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())


@pytest.mark.parametrize("seed", SEEDS)
def test_water_is_conserved_and_goes_one_way(seed):
    state = sample("pour", seed).state
    source, stream, filled = (
        state[f"{name}_volume"] for name in ("source", "stream", "destination")
    )
    assert source + stream + filled == pytest.approx(float(state["volume"]), abs=ROUND_OFF)
    assert (np.diff(source) <= ROUND_OFF).all() and (np.diff(filled) >= -ROUND_OFF).all()
    assert filled[0] == 0.0 and stream[0] == 0.0 and stream[-1] == pytest.approx(0.0, abs=ROUND_OFF)
    assert filled[-1] > 0.75 * state["volume"]
    assert filled[-1] < state["destination_size"].prod()


@pytest.mark.parametrize("seed", range(60))
def test_volumes_are_the_areas_of_the_water_that_is_drawn(seed):
    """The water in the tilted cup is cut out of its corners; the rest are rectangles."""
    state = sample("pour", seed).state
    corners, levels = source_corners(state), state["source_level"]
    cut = [area_below(c, level) for c, level in zip(corners, levels, strict=True)]
    assert cut == pytest.approx(state["source_volume"], abs=1e-9)
    stream = state["stream_bottom"] - state["stream_top"]
    assert stream * state["stream_width"] == pytest.approx(state["stream_volume"], abs=ROUND_OFF)
    depth = state["destination"][1] - state["destination_level"]
    filled = depth * state["destination_size"][0]
    assert filled == pytest.approx(state["destination_volume"], abs=ROUND_OFF)


@pytest.mark.parametrize("seed", SEEDS)
def test_water_leaves_over_the_lip_and_falls_into_the_cup(seed):
    scene = sample("pour", seed)
    state, t = scene.state, np.arange(17)
    pouring = (t > state["starts"]) & (t < state["stops"])
    assert state["source_level"][pouring] == pytest.approx(state["lip"][pouring, 1], abs=1e-9)
    assert (state["source_level"] >= state["lip"][:, 1] - 1e-9).all()
    middle, half = state["destination"][0], 0.5 * state["destination_size"][0]
    edge = 0.5 * state["stream_width"] + 1 / 64
    assert abs(state["stream_x"] - middle) < half - edge
    toward = 1.0 if scene.slots["direction"] == "left" else -1.0
    assert toward * (middle - state["lip"][0, 0]) > 0
    assert (np.diff(state["stream_top"]) >= -ROUND_OFF).all() or state["stream_top"].argmin() == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_cups_do_not_touch_and_stay_in_view(seed):
    """With walls 1.7 pixels thick, corners of one stay out of the other's box and in the frame."""
    state = sample("pour", seed).state
    corners, wall = source_corners(state), 1.7 / 64
    assert corners.min() > wall and corners.max() < 1.0 - wall
    x, bottom = state["destination"]
    half, height = 0.5 * state["destination_size"][0], state["destination_size"][1]
    edge = np.linspace(corners, np.roll(corners, -1, 1), 9).reshape(-1, 2)
    inside = (np.abs(edge[:, 0] - x) < half + 2 * wall) & (edge[:, 1] > bottom - height - wall)
    assert not inside.any()


@pytest.mark.parametrize("seed", range(8))
def test_the_water_that_is_seen_is_constant(seed):
    """Pixels nearer to water than to anything else, at 256 pixels: within 8 % of the volume.

    The water's edges are mixed with the walls' and the flecks: measured over 30 seeds, the largest
    error is 7 %, and the mean is below 2 %.
    """
    scene = sample("pour", seed)
    frames = render(scene, 256) / 255.0
    seen = (np.linalg.norm(frames - WATER, axis=-1) < 0.4).mean((1, 2))
    assert seen == pytest.approx(float(scene.state["volume"]), rel=0.08)
    assert seen.mean() == pytest.approx(float(scene.state["volume"]), rel=0.04)
