"""The frames of a stranger's video, for a worker."""

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.intake import Unfit
from serving.intake.decoder import MOST_VIDEO_PIXELS
from serving.intake.jail import JAIL


def read_video(path: Path, target_fps: float) -> tuple[NDArray[np.uint8], float]:
    """Frames `(T, H, W, 3)`, and frames a second.

    Raises:
        Unfit: for what is no video, or would have too many frames at `target_fps`.
    """
    with path.open("rb") as source, tempfile.TemporaryFile(dir=path.parent, buffering=0) as target:
        told = JAIL.frames(source, target)
        count, height, width, _ = told["shape"]
        most = MOST_VIDEO_PIXELS // (height * width)
        if (wanted := count * target_fps / told["fps"]) > most:
            at = f"{width}x{height} and {target_fps:g} frames a second"
            raise Unfit("file_too_large", f"of at most {most} frames at {at}, not {wanted:.0f}")
        target.seek(0)
        return np.fromfile(target, np.uint8).reshape(told["shape"]), told["fps"]
