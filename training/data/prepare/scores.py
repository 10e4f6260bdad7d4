"""Numbers by which clips may be chosen, taken frame by frame.

All are of frames of a size like 160 x 90; what they are is in `docs/finetune.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.data.decode import Pixels

FLAT = 10
"""Levels of 255 between the lightest and the darkest pixel of a line that is a border."""
HASH_SIDE = 32
"""Pixels of the side of the picture whose 8 x 8 lowest frequencies are its hash."""
NEAR = 6.0
"""Bits of 64, on average over first, middle and last frame, up to which clips are the same."""


@dataclass(frozen=True)
class FrameScores:
    """What one frame has to say.

    Attributes:
        sharpness: variance of the Laplacian (Pech-Pacheco et al., 2000), of grey from 0 to 255.
        moved: mean optical flow since the frame before (Farnebäck, 2003), in frame widths.
        border: share of the frame that is bars, as of a letterbox.
        brightness: mean, from 0 to 1.
        hash: perceptual, of 64 bits (DCT of the grey frame, against its median).
    """

    sharpness: float
    moved: float
    border: float
    brightness: float
    hash: int


def score_frame(frame: Pixels, before: NDArray[np.uint8] | None) -> tuple[FrameScores, Pixels]:
    """Score a frame `(H, W, 3)`; gives its grey `(H, W)`, too, which the next one is held to."""
    grey: Any = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scores = FrameScores(
        sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        moved=0.0 if before is None else _flow(before, grey) / grey.shape[1],
        border=_border(grey),
        brightness=float(grey.mean() / 255),
        hash=_hash(grey),
    )
    return scores, grey


def summarise(frames: Sequence[FrameScores], fps: float) -> dict[str, float]:
    """The scores of a clip.

    `motion` is in frame widths a second; `border` that of the frame that has least of it.
    """
    moved = [frame.moved for frame in frames[1:]] or [0.0]
    return {
        "sharpness": round(float(np.median([f.sharpness for f in frames])), 4),
        "motion": round(float(np.mean(moved)) * fps, 6),
        "border": round(min(f.border for f in frames), 4),
        "brightness": round(float(np.mean([f.brightness for f in frames])), 4),
    }


def signature(frames: Sequence[FrameScores]) -> list[int]:
    """The hashes of a clip's first, middle and last frame."""
    return [frames[k].hash for k in (0, len(frames) // 2, -1)]


def near_duplicates(signatures: Sequence[Sequence[int]], files: Sequence[str]) -> list[int | None]:
    """For each clip the earliest one of another file, not itself a duplicate, that shows the same.

    Clips that differ by at most `NEAR` bits on average have, by the pigeonhole principle, one of
    three hashes within that; of its 7 parts, one is then equal. Only clips that share a part are
    compared.
    """
    parts: dict[tuple[int, int, int], list[int]] = {}
    found: list[int | None] = []
    for clip, mine in enumerate(signatures):
        shared = [(k, i, h >> (9 * i) & 511) for k, h in enumerate(mine) for i in range(7)]
        candidates = sorted({other for part in shared for other in parts.get(part, ())})
        others = (o for o in candidates if files[o] != files[clip])
        near = next((o for o in others if distance(mine, signatures[o]) <= NEAR), None)
        found.append(near)
        if near is None:
            for part in shared:
                parts.setdefault(part, []).append(clip)
    return found


def distance(one: Sequence[int], other: Sequence[int]) -> float:
    """Bits that differ, on average over the hashes of two clips."""
    return sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True)) / len(one)


def _flow(before: NDArray[np.uint8], grey: NDArray[np.uint8]) -> float:
    flow = cv2.calcOpticalFlowFarneback(before, grey, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
    return float(np.linalg.norm(flow, axis=-1).mean())


def _border(grey: NDArray[np.uint8]) -> float:
    rows, columns = (
        np.flatnonzero(grey.max(axis=axis).astype(int) - grey.min(axis=axis) > FLAT)
        for axis in (1, 0)
    )
    if not len(rows) or not len(columns):
        return 1.0
    inside = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    return float(1 - inside / grey.size)


def _hash(grey: NDArray[np.uint8]) -> int:
    small = cv2.resize(grey, (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)
