"""Optical flow, and how well a clip agrees with its own."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]

STILL = 0.25
"""Pixels a frame; what moves less in the two frames before and after counts as static."""
CONSISTENT = 1.0
"""Pixels between a point and where flow forward and back leads to."""


class Flow(NamedTuple):
    """Flow in pixels `(T-1, H, W, 2)`: from each frame to the next, and from the next back."""

    forward: Floats
    backward: Floats


def flows(grey: Grey) -> Flow:
    """Dense inverse search flow of frames `(T, H, W)` (T. Kroeger et al., 2016)."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    pairs = list(zip(grey[:-1], grey[1:], strict=True))
    forward = [search.calc(a, b, None) for a, b in pairs]  # type: ignore[call-overload]
    backward = [search.calc(b, a, None) for a, b in pairs]  # type: ignore[call-overload]
    return Flow(np.stack(forward), np.stack(backward))


def amount(forward: Floats, fps: float) -> float:
    """The mean over time of the 95th percentile of speed, in percent of the diagonal a second."""
    speed = np.hypot(forward[..., 0], forward[..., 1])
    height, width = speed.shape[1:]
    typical = np.percentile(speed.reshape(len(speed), -1), 95, axis=1)
    return float(100 * fps * typical.mean() / np.hypot(height, width))


def warp(image: NDArray[Any], flow: Floats) -> Floats:
    """What `image` shows where `flow` leads from each pixel."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    grid = (x + flow[..., 0]).astype(np.float32), (y + flow[..., 1]).astype(np.float32)
    warped = cv2.remap(
        image.astype(np.float32), *grid, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(warped, np.float32)


def consistency(grey: Grey, flow: Flow) -> dict[str, float | None]:
    """Flicker, warping error and midpoint residual of frames `(T, H, W)`."""
    contrast = float(grey.std(axis=(1, 2)).mean()) + 1e-6
    there = [_agrees(a, b) for a, b in zip(flow.forward, flow.backward, strict=True)]
    warping = [
        abs(now - warp(then, forward))[agrees].mean()
        for now, then, forward, agrees in zip(
            grey.astype(np.float32), grey[1:], flow.forward, there, strict=False
        )
        if agrees.any()
    ]
    middle = [
        abs(grey[t] - (warp(grey[t - 1], flow.backward[t - 1]) + warp(grey[t + 1], ahead)) / 2)
        for t, ahead in enumerate(flow.forward[1:], 1)
    ]
    return {
        "flicker": _flicker(grey, flow.forward),
        "warping_error": float(np.mean(warping)) / contrast if warping else None,
        "midpoint_residual": float(np.mean(middle)) / contrast,
    }


def _agrees(forward: Floats, backward: Floats) -> NDArray[np.bool_]:
    there_and_back = forward + np.stack(
        [warp(backward[..., 0], forward), warp(backward[..., 1], forward)], -1
    )
    agrees: NDArray[np.bool_] = np.hypot(*np.moveaxis(there_and_back, -1, 0)) < CONSISTENT
    return agrees


def _flicker(grey: Grey, forward: Floats) -> float | None:
    moving = np.hypot(forward[..., 0], forward[..., 1]) > STILL
    near = [moving[max(0, t - 2) : t + 3].any(axis=0) for t in range(len(moving))]
    change = abs(np.diff(grey.astype(np.float32), axis=0))[~np.stack(near)]
    return float(change.mean()) / 2.55 if change.size else None


def expansion(flow: Flow, fps: float) -> float:
    """How much more things grow forward than backward, a second; 0 where time has no arrow."""

    def growth(field: Floats) -> float:
        across = np.gradient(field[..., 0], axis=2).mean()
        return float(across + np.gradient(field[..., 1], axis=1).mean())

    return fps * (growth(flow.forward) - growth(flow.backward)) / 2
