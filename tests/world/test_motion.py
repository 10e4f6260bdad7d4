"""Balls that roll, collide, hide and swing obey their laws: in the state, then in the pixels."""

from dataclasses import replace

import numpy as np
import pytest

from world import NUM_FRAMES, render, sample
from world.families import roll, swing
from world.shapes import circle

SEEDS = range(200)
PIXEL = 1 / 64
ROUND_OFF = 1e-12  # of positions in [0, 1] in float64


def uniform(path: np.ndarray, velocity: float) -> bool:
    """Does a path `(T, 2)` move by `velocity` a frame along x and not at all along y?"""
    steps = np.diff(path, axis=0)
    return bool(np.allclose(steps, (velocity, 0.0), rtol=0, atol=ROUND_OFF))


def in_view(path: np.ndarray, radius: float) -> bool:
    return bool((path[:, 0] - radius > 0).all() and (path[:, 0] + radius < 1).all())


def silhouette(scene, colour: str, size: int = 64) -> np.ndarray:
    """How much of each pixel `(T, size, size)` belongs to the actor of a colour.

    It is what changes when the actor is painted in one grey and then in another one. A highlight
    and a face take the same part of the actor in every frame.
    """
    greys = (np.full(3, 0.4), np.full(3, 0.7))
    clips = [render(replace(scene, state={**scene.state, colour: grey}), size) for grey in greys]
    return (clips[1].astype(float) - clips[0]).mean(-1)


def centroid(mask: np.ndarray) -> np.ndarray:
    """Soft centroid `(T, 2)` of masks, in parts of the side; pixel i is centred at i + 0.5."""
    at = (np.arange(mask.shape[-1]) + 0.5) / mask.shape[-1]
    weight = mask.sum((1, 2))
    return np.stack([(mask.sum(1) * at).sum(1), (mask.sum(2) * at).sum(1)], 1) / weight[:, None]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rolling_ball_keeps_the_speed_of_its_word_and_does_not_slip(seed):
    scene = sample("roll", seed)
    state, radius = scene.state, float(scene.state["radius"])
    velocity = float(state["velocity"])
    low, high = roll.SPEEDS[scene.slots["speed"]]
    assert low <= abs(velocity) <= high
    assert (velocity < 0) == (scene.slots["direction"] == "left")
    assert uniform(state["ball"], velocity) and in_view(state["ball"], radius)
    assert np.diff(state["turn"]) * radius == pytest.approx(velocity, abs=ROUND_OFF)


def test_the_words_for_speed_leave_gaps():
    """The slowest of one word is at least 1.25 times the fastest of the word before."""
    slow, medium, fast = (roll.SPEEDS[word] for word in ("slow", "medium", "fast"))
    assert medium[0] / slow[1] > 1.25 and fast[0] / medium[1] > 1.25


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collision_keeps_momentum_and_energy(seed):
    """All from the two paths and radii; masses go with the area. The balls never overlap."""
    state = sample("hit", seed).state
    radii, contact = state["radii"], float(state["contact"])
    x = np.stack([state["mover"][:, 0], state["target"][:, 0]], 1)
    t = np.arange(NUM_FRAMES)
    steps = np.diff(x, axis=0)
    before, after = steps[t[1:] <= contact], steps[t[:-1] >= contact]
    assert len(before) >= 5 and len(after) >= 7
    assert np.ptp(before, axis=0).max() < ROUND_OFF and np.ptp(after, axis=0).max() < ROUND_OFF
    u, v, mass = before[0], after[0], radii**2
    assert u[1] == 0.0 and abs(u[0]) >= 1.5 * PIXEL
    assert mass @ v == pytest.approx(mass @ u, rel=1e-9)
    assert mass @ v**2 == pytest.approx(mass @ u**2, rel=1e-9)
    assert (v[1] - v[0]) == pytest.approx(u[0], rel=1e-9)  # restitution 1
    gap = np.linalg.norm(state["mover"] - state["target"], axis=1) - radii.sum()
    assert gap.min() > -ROUND_OFF and gap[0] > 5 * PIXEL and gap[-1] > 5 * PIXEL
    assert in_view(state["mover"], radii[0]) and in_view(state["target"], radii[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_hidden_ball_goes_on_at_its_speed(seed):
    state = sample("hide", seed).state
    radius, velocity = float(state["radius"]), float(state["velocity"])
    assert uniform(state["ball"], velocity) and in_view(state["ball"], radius)
    away = np.abs(state["ball"][:, 0] - state["wall"][0]) - state["wall_half"][0]
    t = np.arange(NUM_FRAMES)
    inside = (t >= state["hidden"][0]) & (t <= state["hidden"][1])
    assert ((away <= -radius + ROUND_OFF) == inside).all()
    assert inside.sum() >= 2
    free = away >= radius - ROUND_OFF
    assert free[: len(t) // 2].sum() >= 3 and free[len(t) // 2 :].sum() >= 3
    top, foot = state["wall"][1] + np.array([-1.0, 1.0]) * state["wall_half"][1]
    assert top < state["ball"][0, 1] - radius and foot > state["ball"][0, 1] + radius


@pytest.mark.parametrize("seed", SEEDS)
def test_a_pendulum_swings_as_a_damped_oscillator(seed):
    """The angle is read from the bob; the law's equation of motion is checked in the discrete form

    a(t+1) - 2 e^-d cos(w) a(t) + e^-2d a(t-1) = 0, which its exact solution fulfils.
    """
    state = sample("swing", seed).state
    rod = state["bob"] - state["pivot"]
    length, damping, omega = (float(state[k]) for k in ("length", "damping", "omega"))
    assert np.linalg.norm(rod, axis=1) == pytest.approx(length, abs=ROUND_OFF)
    angle = np.arctan2(rod[:, 0], rod[:, 1])
    decay = np.exp(-damping)
    residual = angle[2:] - 2 * decay * np.cos(omega) * angle[1:-1] + decay**2 * angle[:-2]
    assert np.abs(residual).max() < 1e-12
    assert (omega**2 + damping**2) * length == pytest.approx(swing.GRAVITY, rel=1e-12)
    assert 1.2 < omega * (NUM_FRAMES - 1) / (2 * np.pi) < 1.9  # periods in a clip
    assert in_view(state["bob"], float(state["radius"]))
    assert (state["bob"][:, 1] + state["radius"]).max() < float(state["floor"])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("family", "colour", "path"),
    [
        ("roll", "colour", "ball"),
        ("hit", "colour", "mover"),
        ("hit", "other_colour", "target"),
        ("swing", "colour", "bob"),
        ("order", "colour", "ball"),
        ("order", "other_colour", "square"),
        ("two_balls", "other_colour", "other_ball"),
    ],
)
def test_pixels_are_where_the_state_says_and_as_many_in_every_frame(family, colour, path, seed):
    """A highlight of about 5 % and a face of 10 % lie off the middle: 0.06 of a radius, 0.5 px.

    Where nothing turns they shift the centroid alike in all frames, and the rest is rounding; a
    face that tilts by up to 0.65 and a turning band leave 0.2 px. The area keeps within 2 %.
    """
    scene = sample(family, seed)
    mask = silhouette(scene, colour)
    area = mask.sum((1, 2))
    assert area.std() / area.mean() < 0.02
    error = centroid(mask) - scene.state[path]
    assert np.abs(error).max() < 0.6 * PIXEL
    assert np.abs(error - error.mean(0)).max() < 0.2 * PIXEL


@pytest.mark.parametrize("seed", range(8))
def test_nothing_of_a_hidden_ball_is_seen(seed):
    """The visible part of the disc by the wall's two edges, from the state, against the pixels.

    An edge that is not on the grid lets half a pixel's column through, some 4 % of the ball; when
    the ball has only just gone in, that column has few pixels of it, below 1 %.
    """
    scene = sample("hide", seed)
    state = scene.state
    area = silhouette(scene, "colour").sum((1, 2))
    grid = (np.arange(400) + 0.5) / 200 - 1
    disc = circle(grid[None, :], grid[:, None], 1.0) < 0
    x = state["ball"][:, :1] + state["radius"] * grid - state["wall"][0]
    shown = (disc.sum(0) * (np.abs(x) > state["wall_half"][0])).sum(1) / disc.sum()
    assert np.abs(area / area.max() - shown).max() < 0.08
    t = np.arange(NUM_FRAMES)
    inside = (t > state["hidden"][0]) & (t < state["hidden"][1])
    assert inside.sum() >= 2 and area[inside].max() < 0.01 * area.max()
