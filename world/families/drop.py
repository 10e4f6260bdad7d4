"""A ball falls from rest and bounces: constant gravity, constant restitution."""

import numpy as np

from world.families.ball import draw_ball
from world.painter import Canvas, shadow
from world.palette import Floats, sample_colour

REST = 0.5  # the shortest flight of a bouncing ball, in frames


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """Radius, gravity and restitution, and the ball's exact path `(T, 2)`."""
    radius = rng.uniform(6.0, 8.5) / 64
    top = rng.uniform(radius + 1 / 64, radius + 9 / 64)
    height = floor - radius - top
    fall = rng.uniform(6.0, 10.0)
    gravity, restitution = 2.0 * height / fall**2, rng.uniform(0.6, 0.85)
    release = rng.uniform(0.0, 2.0)
    impacts = bounce_times(release, fall, restitution, frames)
    path = np.empty((frames, 2))
    path[:, 0] = rng.uniform(radius + 3 / 64, 1.0 - radius - 3 / 64)
    path[:, 1] = (
        floor - radius - altitude(np.arange(frames), height, gravity, restitution, release, impacts)
    )
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "ball": path,
        "radius": np.array(radius),
        "gravity": np.array(gravity),
        "restitution": np.array(restitution),
        "release": np.array(release),
        "impacts": impacts,
    }


def bounce_times(release: float, fall: float, restitution: float, frames: int) -> Floats:
    """Times of the impacts within the clip, in frames: flight n lasts 2 e^n times the fall.

    A ball whose next flight would be shorter than `REST` stays on the ground.
    """
    times, flight = [release + fall], 2.0 * restitution * fall
    while times[-1] + flight < frames and flight > REST:
        times.append(times[-1] + flight)
        flight *= restitution
    return np.array(times)


def altitude(
    t: Floats, height: float, gravity: float, restitution: float, release: float, impacts: Floats
) -> Floats:
    """Height of the ball above its resting place at the times `t` `(T,)`, in frames."""
    above = height - 0.5 * gravity * np.maximum(t - release, 0.0) ** 2
    speed = gravity * (impacts[0] - release)
    for impact in impacts:
        speed *= restitution
        since = t - impact
        above = np.where(since >= 0, speed * since - 0.5 * gravity * since**2, above)
    return np.maximum(above, 0.0)


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """A ball with a highlight, and a shadow that darkens as the ball comes near."""
    ball, radius, floor = state["ball"], float(state["radius"]), float(state["floor"])
    nearness = np.clip(1.0 - (floor - radius - ball[:, 1]) / 0.7, 0.0, 1.0)
    under = np.stack([ball[:, 0], np.full(canvas.frames, floor)], axis=1)
    shadow(canvas, under, radius * 1.1, 0.08 + 0.37 * nearness**2)
    draw_ball(canvas, ball, radius, state["colour"])
