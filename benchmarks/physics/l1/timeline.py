"""Cuts, freezes, loops, and the area of the colour that a prompt names."""

import re

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from benchmarks.physics.l1.tracks import chi_square, histograms

Grey = NDArray[np.uint8]

HUES = {"red": 0, "orange": 15, "yellow": 28, "green": 60, "blue": 112, "purple": 138}
"""OpenCV's hues, half a degree a step, of the colours that prompts name."""
HUE_REACH, SATURATED, BRIGHT = 9, 90, 50
ZERO = 0.5
"""Grey levels of mean difference below which two frames are the same one."""


def measure(frames: NDArray[np.uint8], grey: Grey, prompt: str) -> dict[str, float | None]:
    """Largest cut, frozen share, loop and colour trend of frames `(T, H, W, 3)`."""
    table = histograms(frames)
    jumps = [chi_square(a, b) for a, b in zip(table, table[1:], strict=False)]
    return {
        "largest_cut": max(jumps),
        "frozen": _frozen(grey),
        "loop": _loop(grey),
        "colour_trend": _colour_trend(frames, prompt),
    }


def _frozen(grey: Grey) -> float:
    """The longest run of frames that do not change, as a share of the clip."""
    same = abs(np.diff(grey.astype(np.float32), axis=0)).mean(axis=(1, 2)) < ZERO
    longest = run = 0
    for still in same:
        run = run + 1 if still else 0
        longest = max(longest, run)
    return longest / len(same)


def _loop(grey: Grey) -> float | None:
    """How much nearer frames of the best lag, a quarter of the clip or more, are than others."""
    small = np.stack([cv2.resize(g, (32, 32), interpolation=cv2.INTER_AREA) for g in grey])
    flat = small.reshape(len(small), -1).astype(np.float32)
    away = abs(flat[:, None] - flat[None]).mean(axis=-1)
    usual = float(away[np.triu_indices(len(away), 1)].mean())
    lags = range(max(2, len(away) // 4), len(away) - 2)
    if usual < ZERO or not lags:
        return None
    return max(0.0, 1 - min(float(np.diagonal(away, lag).mean()) for lag in lags) / usual)


def _colour_trend(frames: NDArray[np.uint8], prompt: str) -> float | None:
    """Whether the area of the one colour that is named grows (1) or shrinks (-1) throughout."""
    named = [name for name in HUES if re.search(rf"\b{name}\b", prompt.lower())]
    if len(named) != 1:
        return None
    areas = []
    for frame in frames:
        hue, saturation, value = cv2.split(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV))
        away = abs(hue.astype(int) - HUES[named[0]])
        near = np.minimum(away, 180 - away) <= HUE_REACH
        areas.append(float((near & (saturation >= SATURATED) & (value >= BRIGHT)).sum()))
    if np.ptp(areas) < 0.02 * max(areas):
        return None if max(areas) == 0 else 0.0
    return float(spearmanr(areas, np.arange(len(areas))).statistic)
