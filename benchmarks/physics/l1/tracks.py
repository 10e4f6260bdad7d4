"""Corners followed through a clip: do they live, keep their looks, and move as matter does?"""

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]

CORNERS, SPACING = 200, 6
BORDER = 10
"""Pixels; a corner that is lost nearer to the border may have left the frame."""
OCCLUDER = 1.5
"""Pixels a frame of difference in the flow around a corner, one frame before it is lost: something
was about to cover it. The flow of the loss itself is no witness: it tears where a thing pops."""
PATCH = 11
LAGS = (2, 5, 10, 20)


def measure(
    frames: NDArray[np.uint8], grey: Grey, forward: Floats, fps: float
) -> dict[str, float | None]:
    """Survival, deaths, drifts, rigidity and jerk of frames `(T, H, W, 3)`; None with no corner."""
    drift = _histogram_drift(frames, fps)
    paths = follow(grey)
    if paths is None:
        return {"histogram_drift": drift}
    alive = np.isfinite(paths[..., 0])
    second = min(len(grey) - 1, round(fps))
    moved = alive[-1] & (np.linalg.norm(paths[-1] - paths[0], axis=-1) > 3)
    diagonal = float(np.hypot(*grey.shape[1:]))
    return {
        "track_survival": float(alive[second].mean()),
        "interior_deaths": _interior_deaths(paths, forward) * fps / (len(grey) - 1),
        "histogram_drift": drift,
        "patch_drift": _patch_drift(grey, paths, fps),
        "rigidity": _rigidity(paths[0, moved], paths[-1, moved]),
        "jerk": _jerk(paths[:, alive[-1]]) * fps**3 / diagonal,
    }


def follow(grey: Grey) -> Floats | None:
    """Corners of the first frame through all, `(T, N, 2)`, NaN once lost; None if there are none.

    Shi-Tomasi corners, pyramidal Lucas-Kanade, lost where the way back misses by a pixel.
    """
    corners = cv2.goodFeaturesToTrack(grey[0], CORNERS, 0.02, SPACING)
    if corners is None:
        return None
    paths = np.full((len(grey), len(corners), 2), np.nan, np.float32)
    paths[0] = corners[:, 0]
    for t in range(1, len(grey)):
        alive = np.flatnonzero(np.isfinite(paths[t - 1, :, 0]))
        if not len(alive):
            break
        before = paths[t - 1, alive][:, None]
        after, found, _ = cv2.calcOpticalFlowPyrLK(grey[t - 1], grey[t], before, None)  # type: ignore[call-overload]
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(grey[t], grey[t - 1], after, None)  # type: ignore[call-overload]
        good = (found * found_back)[:, 0].astype(bool)
        good &= np.linalg.norm(back - before, axis=-1)[:, 0] < 1
        good &= _inside(after[:, 0], grey.shape[1:], 0)
        paths[t, alive[good]] = after[good, 0]
    return paths


def _inside(points: Floats, shape: tuple[int, ...], margin: int) -> NDArray[np.bool_]:
    room = np.array([shape[1] - 1 - margin, shape[0] - 1 - margin])
    return np.asarray(((points >= margin) & (points <= room)).all(axis=-1))


def _interior_deaths(paths: Floats, forward: Floats) -> float:
    """The share of tracks that end inside the frame with no edge of an occluder near."""
    deaths = 0
    alive = np.isfinite(paths[..., 0])
    for t in range(1, len(paths)):
        for x, y in paths[t - 1, alive[t - 1] & ~alive[t]]:
            if not _inside(np.array([x, y]), forward.shape[1:3], BORDER).all():
                continue
            row, column = int(y), int(x)
            around = forward[
                max(0, t - 2), max(0, row - 6) : row + 7, max(0, column - 6) : column + 7
            ]
            deaths += float(np.ptp(around, axis=(0, 1)).max()) < OCCLUDER
    return deaths / int(paths.shape[1])


def _histogram(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    lab = cv2.cvtColor(frame, cv2.COLOR_RGB2LAB)
    counts = cv2.calcHist([lab], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).astype(np.float64)
    return np.asarray(counts.ravel() / counts.sum())


def chi_square(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Half the chi-square distance of two histograms, 0 to 1."""
    total = a + b
    return float(((a - b) ** 2 / np.where(total > 0, total, 1)).sum() / 2)


def histograms(frames: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Each frame's histogram in Lab, 8 bins a channel, adding up to 1."""
    return [_histogram(frame) for frame in frames]


def _histogram_drift(frames: NDArray[np.uint8], fps: float) -> float:
    table = histograms(frames)
    lags = [lag for lag in LAGS if lag < len(table)]
    far = [
        np.mean([chi_square(a, b) for a, b in zip(table, table[k:], strict=False)]) for k in lags
    ]
    return float(np.polyfit(np.array(lags) / fps, far, 1)[0]) if len(lags) > 1 else float(far[0])


def _patch_drift(grey: Grey, paths: Floats, fps: float) -> float | None:
    """How fast patches along tracks come to differ from their first look: 1 - NCC a second."""
    lost, seconds = [], []
    for lag in (k for k in LAGS if k < len(grey)):
        for first, then in zip(paths[0], paths[lag], strict=True):
            if not np.isfinite(then[0]):
                continue
            a, b = (
                cv2.getRectSubPix(image, (PATCH, PATCH), (float(x), float(y))).astype(np.float64)
                for image, (x, y) in ((grey[0], first), (grey[lag], then))
            )
            spread = float(a.std() * b.std())
            if spread > 1:
                lost.append(1 - float(((a - a.mean()) * (b - b.mean())).mean()) / spread)
                seconds.append(lag / fps)
    if not lost:
        return None
    return float(np.dot(lost, seconds) / np.dot(seconds, seconds))


def _rigidity(before: Floats, after: Floats) -> float | None:
    """What an affine map leaves of the moved tracks' displacement, over their spread."""
    if len(before) < 6:
        return None
    known = np.column_stack([before, np.ones(len(before))])
    fitted = known @ np.linalg.lstsq(known, after, rcond=None)[0]
    spread = float(np.linalg.norm(before.std(axis=0)))
    return float(np.sqrt(((after - fitted) ** 2).sum(axis=1).mean())) / max(spread, 1.0)


def _jerk(paths: Floats) -> float:
    third = np.diff(paths, 3, axis=0)
    return float(np.linalg.norm(third, axis=-1).mean()) if third.size else 0.0
