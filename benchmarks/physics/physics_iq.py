"""The measures and the score of Physics-IQ (S. Motamed et al., 2025, arXiv:2501.09038).

A generated clip is compared with a real one, take 1; the real take 2 says how much two recordings
of the same scene differ. The authors pass the masks through a lossy video file; these do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]

MOTION_THRESHOLD = 10
BACKGROUND_RATE = 0.3


@dataclass(frozen=True)
class Measures:
    """The spatial, spatiotemporal and weighted spatial IoU of two clips, and their MSE."""

    spatial: float
    spatiotemporal: float
    weighted_spatial: float
    mse: float


def motion_masks(frames: Pixels) -> Masks:
    """Where a clip `(T, H, W, 3)` RGB moves, `(T, H, W)`; the first frame is empty.

    Grey levels, blurred 5x5, that differ by more than 10 from their running average (rate 0.3),
    then opened and closed 5x5.
    """
    grey = [cv2.GaussianBlur(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (5, 5), 0) for f in frames]
    average = grey[0].astype(np.float64)
    kernel = np.ones((5, 5), np.uint8)
    masks = np.zeros(frames.shape[:3], np.bool_)
    for mask, frame in zip(masks[1:], grey[1:], strict=True):
        cv2.accumulateWeighted(frame, average, BACKGROUND_RATE)
        difference = cv2.absdiff(frame, cv2.convertScaleAbs(average))
        moving = (difference > MOTION_THRESHOLD).astype(np.uint8)
        opened = cv2.morphologyEx(moving, cv2.MORPH_OPEN, kernel)
        mask[:] = cv2.morphologyEx(opened, cv2.MORPH_CLOSE, kernel) > 0
    return masks


def iou(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The sum of minima over the sum of maxima of masks or weights of one shape; 1 if empty."""
    union = float(np.maximum(a, b).sum(dtype=np.float64))
    return float(np.minimum(a, b).sum(dtype=np.float64)) / union if union else 1.0


def spatial_iou(a: Masks, b: Masks) -> float:
    """Where did anything move, at any time?"""
    return iou(np.any(a, axis=0), np.any(b, axis=0))


def spatiotemporal_iou(a: Masks, b: Masks) -> float:
    """Where did anything move in each frame? The mean over frames."""
    return float(np.mean([iou(x, y) for x, y in zip(a, b, strict=True)]))


def weighted_spatial_iou(a: Masks, b: Masks) -> float:
    """Where did anything move, and for how long?"""
    return iou(a.mean(axis=0), b.mean(axis=0))


def mse(a: Pixels, b: Pixels) -> float:
    """The mean squared difference of pixels, in [0, 1]."""
    return float(np.mean((a.astype(np.float64) - b) ** 2)) / 255.0**2


def measures(a: Pixels, b: Pixels) -> Measures:
    """Compare two clips `(T, H, W, 3)`. Raises `ValueError` if their shapes differ."""
    if a.shape != b.shape:
        raise ValueError(f"the clips are {a.shape} and {b.shape}; they must be of one shape")
    masks = motion_masks(a), motion_masks(b)
    return Measures(
        spatial_iou(*masks), spatiotemporal_iou(*masks), weighted_spatial_iou(*masks), mse(a, b)
    )


def mean(clips: Sequence[Measures]) -> Measures:
    """The mean of each measure over scenarios and views of as many frames each."""
    values = np.array([(c.spatial, c.spatiotemporal, c.weighted_spatial, c.mse) for c in clips])
    return Measures(*values.mean(axis=0).tolist())


def score(model: Measures, real: Measures) -> float:
    """The Physics-IQ score, 0 to 100, of means over the whole set.

    Args:
        model: generated clips against take 1.
        real: take 2 against take 1.
    """
    trio = (
        model.spatiotemporal / real.spatiotemporal
        + model.spatial / real.spatial
        + model.weighted_spatial / real.weighted_spatial
    ) / 3
    return 100.0 * float(np.clip(trio - (model.mse - real.mse), 0.0, 1.0))
