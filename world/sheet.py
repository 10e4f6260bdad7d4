"""Contact sheets: clips as rows of frames, each under a line of text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

HEADER, GAP = 14, 2


def contact_sheet(
    rows: Sequence[tuple[str, NDArray[np.uint8]]], scale: int = 3, stride: int = 2
) -> Image.Image:
    """Lay clips out below each other.

    Args:
        rows: a line of text and the frames `(T, H, W, 3)` of each clip, all of one size.
        scale: enlargement of the pixels.
        stride: every how many-th frame is shown.
    """
    frames = [clip[::stride].repeat(scale, 1).repeat(scale, 2) for _, clip in rows]
    columns, (height, width) = max(len(clip) for clip in frames), frames[0].shape[1:3]
    step = height + HEADER + GAP
    sheet = Image.new("RGB", (columns * (width + GAP), len(rows) * step), "white")
    pen = ImageDraw.Draw(sheet)
    for row, ((text, _), clip) in enumerate(zip(rows, frames, strict=True)):
        pen.text((2, row * step + 1), text, fill="black")
        for column, frame in enumerate(clip):
            place = (column * (width + GAP), row * step + HEADER)
            sheet.paste(Image.fromarray(frame), place)
    return sheet
