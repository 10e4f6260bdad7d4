"""The length and rate of a clip, and how motion starts and stops in it."""

import numpy as np

from world.palette import Floats

NUM_FRAMES = 17
MAX_FRAMES = 33
FPS = 8


def smoothstep(part: Floats) -> Floats:
    """A gentle start and stop: 0 up to 0, 1 from 1 on, and 3 p^2 - 2 p^3 between."""
    part = np.clip(part, 0.0, 1.0)
    smooth: Floats = part * part * (3.0 - 2.0 * part)
    return smooth
