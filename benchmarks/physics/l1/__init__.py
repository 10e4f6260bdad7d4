"""Diagnostics of any clip that need no weights; they describe, and never enter PCS.

A still clip wins most of them, so all but the motion itself are left out below `MOTION_GATE`.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.l1 import motion, timeline, tracks

SIDE = 256
"""Pixels of the shorter side at which clips are measured."""
MOTION_GATE = 1.0
"""Percent of the diagonal a second; below it a clip counts as still."""

UNITS = {
    "motion": "% of the diagonal / s",
    "flicker": "% of the range, where nothing moves",
    "warping_error": "of the contrast",
    "midpoint_residual": "of the contrast",
    "track_survival": "share alive after 1 s",
    "interior_deaths": "share of tracks / s",
    "histogram_drift": "chi-square / s",
    "patch_drift": "1 - NCC / s",
    "rigidity": "residual / size",
    "jerk": "diagonals / s^3",
    "largest_cut": "chi-square",
    "frozen": "share of the clip",
    "loop": "match of the best lag, 1 is a loop",
    "colour_trend": "rank correlation of area and time",
    "expansion": "1 / s, forward less backward",
}
"""Every diagnostic and its unit."""


def measure(frames: NDArray[np.uint8], fps: float, prompt: str = "") -> dict[str, float | None]:
    """The diagnostics of a clip by the names of `UNITS`; None where one does not apply.

    Args:
        frames: `(T, H, W, 3)` RGB, T at least 3.
        fps: frames a second.
        prompt: tells the colour whose area is followed, if it names just one.

    Raises:
        ValueError: for fewer than 3 frames.
    """
    if len(frames) < 3:
        raise ValueError(f"the clip has {len(frames)} frames; motion needs 3 or more")
    frames = _resized(frames)
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    flow = motion.flows(grey)
    values: dict[str, float | None] = dict.fromkeys(UNITS)
    amount = values["motion"] = motion.amount(flow.forward, fps)
    values |= timeline.measure(frames, grey, prompt)
    if amount < MOTION_GATE:
        return values
    values |= motion.consistency(grey, flow)
    values["expansion"] = motion.expansion(flow, fps)
    return values | tracks.measure(frames, grey, flow.forward, fps)


def _resized(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = frames.shape[1:3]
    scale = SIDE / min(height, width)
    size = (round(width * scale), round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, size, interpolation=way) for frame in frames])
