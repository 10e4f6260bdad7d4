"""The frames of a clip of an index, as they are encoded."""

from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np

from training.data.decode import Fit, Pixels, Unreadable, Video
from training.data.opened import opened


def read_clip(clip: dict[str, Any], fps: Fraction, fit: Fit) -> Pixels:
    """Decode the frames of a clip, `(T, H, W, 3)`.

    Args:
        clip: `uri`, `origin` (seconds, of the file's first frame), `first` and `frames` of a row.
        fps: of the data set; the clip begins `first / fps` seconds after the origin.
        fit: as in `Video.seen`.

    Raises:
        Unreadable: if the file has changed, so that the frames are not there any more.
    """
    start = Fraction(clip["origin"]) + clip["first"] / fps
    with opened(clip["uri"]) as file, Video(file) as video:
        frames = [frame for _, frame in islice(video.seen(fps, fit, start), clip["frames"])]
    if len(frames) < clip["frames"]:
        raise Unreadable(
            f"{clip['uri']}: {len(frames)} of {clip['frames']} frames from {float(start):.3f} s; "
            "has the file changed?"
        )
    return np.stack(frames)


def fitted(width: int, height: int, area: int, multiple: int) -> tuple[int, int]:
    """The largest sides of about an aspect, in multiples, within an area and never enlarged.

    Gives width and height; 0 where a side is less than one multiple.
    """
    scale = min(1.0, (area / (width * height)) ** 0.5)
    return tuple(int(side * scale) // multiple * multiple for side in (width, height))  # type: ignore[return-value]


def cropped(frames: Pixels, width: int, height: int) -> Pixels:
    """The middle of frames `(T, H, W, 3)`."""
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return frames[:, top : top + height, left : left + width]


def covering(width: int, height: int) -> Fit:
    """Scales a frame so that it just covers a size, of which the middle is then cropped."""

    def fit(source_width: int, source_height: int) -> tuple[int, int]:
        scale = max(width / source_width, height / source_height)
        return max(width, round(source_width * scale)), max(height, round(source_height * scale))

    return fit
