"""PhyWorld's world: coloured balls on white that move uniformly, collide or fall along a parabola.

Ranges, starts and the paper's pixels follow Kang et al., "How Far is Video Generation from World
Model: A Physical Law Perspective" (2024), and the data generator that its authors released. Motion
is exact here and not integrated in steps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from world.palette import Floats

TASKS = ("uniform", "collision", "parabola")
SPLITS = ("id", "ood")
CONVENTIONS = ("paper", "centred")
SIDE, NUM_FRAMES, TIMESTEP = 10.0, 32, 0.1
GRAVITY = -2.5  # of the parabola; y points up
COLOURS = ((255, 0, 0), (0, 0, 255))
EDGE = 0.05 * SIDE  # balls start at least so far from the lower and the upper border
PAPER_SOFTNESS = 0.03  # of the squared radius
FRAMES_IN_VIEW = 24  # one ball stays in view so long, if its speed lets it
CONTACT_FRAMES = (8, 24)

Range = tuple[float, float]
TRAINED_SPEEDS: Range = (1.0, 4.0)
OTHER_SPEEDS: tuple[Range, ...] = ((0.0, 0.8), (4.5, 6.0))
TRAINED_RADII: dict[str, Range] = {
    "uniform": (0.7, 1.4),
    "collision": (0.5, 1.5),
    "parabola": (0.7, 1.4),
}
OTHER_RADII: dict[str, tuple[Range, ...]] = {
    "uniform": ((0.3, 0.6), (1.5, 2.0)),
    "collision": ((0.3, 0.4), (1.7, 2.0)),
    "parabola": ((0.3, 0.6), (1.5, 2.0)),
}
# Which of (r, v) or (r1, r2, v1, v2) lie out of what training has, one line a level of the paper.
OUTSIDE = {
    1: ((1, 0), (0, 1), (1, 1)),
    2: (
        (1, 0, 0, 0),
        (0, 0, 1, 0),
        (1, 1, 0, 0),
        (0, 0, 1, 1),
        (1, 0, 1, 0),
        (1, 1, 1, 1),
    ),
}


@dataclass(frozen=True)
class Trajectory:
    """The exact motion of N balls in a square of side 10, x to the right and y up.

    `radii (N,)`; `positions` and `velocities` `(T, N, 2)` at every frame, in units of length and
    units a second. Frame i is at 0.1 i seconds.
    """

    task: str
    seed: int
    split: str
    radii: Floats
    positions: Floats
    velocities: Floats


def sample(task: str, seed: int, split: str = "id") -> Trajectory:
    """The trajectory that belongs to a seed.

    Split "id" has radii and speeds as training has them; "ood" has some or all of them out of these
    ranges. Raises `ValueError` for an unknown task or split or a negative seed.
    """
    _check("task", task, TASKS)
    _check("split", split, SPLITS)
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or greater")
    rng = np.random.default_rng([seed, SPLITS.index(split), *task.encode()])
    t = TIMESTEP * np.arange(NUM_FRAMES)[:, None]
    if task == "collision":
        radii, x, velocity = _collide(rng, split, t)
    else:
        radii, speeds = _draw(rng, task, split, 1)
        x, velocity = _start(rng, radii[0], speeds[0]) + speeds * t, speeds + 0.0 * t
    largest = float(radii.max())
    top = SIDE - EDGE - largest
    lowest = top - 1.0 if task == "parabola" else EDGE + largest
    gravity = GRAVITY if task == "parabola" else 0.0
    y = rng.uniform(lowest, top) + 0.5 * gravity * t**2 + 0.0 * x
    return Trajectory(
        task,
        seed,
        split,
        radii,
        np.stack([x, y], axis=2),
        np.stack([velocity, gravity * t + 0.0 * x], axis=2),
    )


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")


def _draw(rng: np.random.Generator, task: str, split: str, count: int) -> tuple[Floats, Floats]:
    """Radii and speeds `(count,)` of a split."""
    levels = OUTSIDE[count]
    outside = levels[rng.integers(len(levels))] if split == "ood" else (0,) * (2 * count)
    trained = [TRAINED_RADII[task]] * count + [TRAINED_SPEEDS] * count
    others = [OTHER_RADII[task]] * count + [OTHER_SPEEDS] * count
    ranges = [
        other[rng.integers(2)] if out else inside
        for out, inside, other in zip(outside, trained, others, strict=True)
    ]
    values = np.array([rng.uniform(*limits) for limits in ranges])
    return values[:count], values[count:]


def _start(rng: np.random.Generator, radius: float, speed: float) -> float:
    """Where a ball that goes right starts, wholly in view."""
    last = SIDE - radius - FRAMES_IN_VIEW * TIMESTEP * speed
    if last < radius:
        last = radius + rng.uniform(0.0, 0.5)
    return float(rng.uniform(radius, last))


def _collide(rng: np.random.Generator, split: str, t: Floats) -> tuple[Floats, Floats, Floats]:
    """Radii `(2,)`, x and its velocity `(T, 2)` of balls that meet head-on and bounce off.

    Draws again what cannot meet between the frames of `CONTACT_FRAMES` and start in view.
    """
    while True:
        radii, speeds = _draw(rng, "collision", split, 2)
        least, most = (frames * TIMESTEP * speeds.sum() for frames in CONTACT_FRAMES)
        room = SIDE - 2.0 * radii.sum()  # between the two, if they start at the borders
        if least < room:
            break
    gap = rng.uniform(least, min(most, room))
    first = rng.uniform(radii[0], radii[0] + room - gap)
    start = np.array([first, first + radii.sum() + gap])
    before, mass, contact = speeds * (1.0, -1.0), radii**2, gap / speeds.sum()
    after = 2.0 * (mass @ before) / mass.sum() - before  # elastic, on a line
    x = start + before * np.minimum(t, contact) + after * np.maximum(t - contact, 0.0)
    return radii, x, np.where(t < contact, before, after)


def render(
    trajectory: Trajectory, size: int = 256, convention: str = "centred"
) -> NDArray[np.uint8]:
    """The frames `(T, size, size, 3)` RGB of a trajectory.

    Convention "paper" puts the middle of pixel i at 10 i / (size - 1), softens the inside of an
    edge by 3 % of the squared radius and rounds down, as the released generator does; "centred"
    puts it at 10 (i + 1/2) / size and covers each pixel by its part inside the ball. Raises
    `ValueError` for another convention or a size below 8.
    """
    _check("convention", convention, CONVENTIONS)
    if size < 8:
        raise ValueError(f"size is {size}; it must be 8 pixels or more")
    index = np.arange(size)
    at = index / (size - 1) if convention == "paper" else (index + 0.5) / size
    frames = np.full((NUM_FRAMES, size, size, 3), 255.0, np.float32)
    for k, radius in enumerate(trajectory.radii):
        dx = SIDE * at - trajectory.positions[:, k, :1]
        dy = SIDE * (1.0 - at) - trajectory.positions[:, k, 1:]
        squared = (dx**2)[:, None, :] + (dy**2)[:, :, None]
        if convention == "paper":
            inside = (radius**2 - squared) / (PAPER_SOFTNESS * radius**2)
        else:
            inside = 0.5 + (radius - np.sqrt(squared)) * (size / SIDE)
        covered = np.clip(inside, 0.0, 1.0)[..., None].astype(np.float32)
        frames += covered * (np.array(COLOURS[k], np.float32) - frames)
    return (frames if convention == "paper" else frames + 0.5).astype(np.uint8)
