"""A mark that can be seen: a few words in the corner of every frame, if the operator wants them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SHARE = 0.06
"""Height of the letters, of the shorter side of a frame; at least 8 pixels."""
OPACITY = 0.6

Frames = NDArray[np.uint8]


def marked(frames: Frames, text: str) -> Frames:
    """Frames `(T, H, W, 3)` with white, dark-edged words in the lower right corner."""
    height, width = frames.shape[1:3]
    size = max(8, round(SHARE * min(height, width)))
    layer = Image.new("LA", (width, height), (0, 0))
    place = (width - size // 2, height - size // 2)
    ImageDraw.Draw(layer).text(
        *(place, text),
        fill=(255, 255),
        font=ImageFont.load_default(size),
        anchor="rs",
        stroke_width=max(1, size // 12),
        stroke_fill=(0, 255),
    )
    ink, cover = (np.asarray(band, np.float32)[..., None] for band in layer.split())
    share = cover / 255 * OPACITY
    mixed: Frames = (frames * (1 - share) + ink * share + 0.5).astype(np.uint8)
    return mixed
