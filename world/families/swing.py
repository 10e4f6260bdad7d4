"""A pendulum with a face swings, lightly damped."""

import math

import numpy as np

from world import shapes
from world.families.ball import draw_faced
from world.painter import Canvas, over_frames, shadow
from world.palette import STEEL, WOOD, Floats, sample_colour

GRAVITY = 9.1 / 64  # per frame squared, the same in all clips: 28 pixels swing in 11 frames


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The pendulum's `angle (T,)` from the vertical, positive to the right, and its `bob (T, 2)`.

    angle = amplitude * exp(-damping * t) * cos(omega * t + phase), the damped oscillator's law with
    omega^2 = GRAVITY / length - damping^2; `length` runs from the `pivot (2,)` to the bob's middle.
    """
    radius, length = rng.uniform(5.5, 7.5) / 64, rng.uniform(22.0, 33.0) / 64
    amplitude, damping = rng.uniform(0.35, 0.65), rng.uniform(0.0, 0.02)
    omega = math.sqrt(GRAVITY / length - damping**2)
    phase = rng.uniform(0.0, 2.0 * np.pi)
    t = np.arange(frames)
    angle = amplitude * np.exp(-damping * t) * np.cos(omega * t + phase)
    room = length * math.sin(amplitude) + radius + 1 / 64
    pivot = np.array([rng.uniform(room, 1.0 - room), rng.uniform(4.0, 6.0) / 64])
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "pivot": pivot,
        "bob": pivot + length * np.stack([np.sin(angle), np.cos(angle)], axis=1),
        "radius": np.array(radius),
        "length": np.array(length),
        "angle": angle,
        "amplitude": np.array(amplitude),
        "damping": np.array(damping),
        "omega": np.array(omega),
        "phase": np.array(phase),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """The beam, the rod, the bob and its shadow."""
    pivot, bob, radius = state["pivot"], state["bob"], float(state["radius"])
    under = np.stack([bob[:, 0], np.full(canvas.frames, float(state["floor"]))], axis=1)
    shadow(canvas, under, radius, 0.18)
    beam = np.array([pivot[0], 0.0])
    with canvas.patch(beam, (10 / 64, 8 / 64)) as patch:
        plank = shapes.capsule(patch.x, patch.y, (-7 / 64, 0.0), (7 / 64, 0.0), pivot[1] - 1 / 64)
        patch.ink(plank, WOOD, np.array(WOOD) * 0.66)
    # The rod is read from the bob, so that a bob that strays takes the rod along.
    middle = 0.5 * (pivot + bob)
    reach = 0.5 * np.abs(bob - pivot).max(axis=0) + 2 / 64
    with canvas.patch(middle, (float(reach[0]), float(reach[1]))) as patch:
        top, end = (over_frames(place - middle) for place in (0.0 * bob + pivot, bob))
        patch.fill(shapes.capsule(patch.x, patch.y, top, end, 0.8 / 64), STEEL)
    with canvas.patch(pivot, (2 / 64, 2 / 64)) as patch:
        patch.ink(shapes.circle(patch.x, patch.y, 1.8 / 64), STEEL, np.array(STEEL) * 0.5)
    eyes = np.ones(canvas.frames)
    draw_faced(canvas, bob, radius, state["colour"], -state["angle"], eyes)
