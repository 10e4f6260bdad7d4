"""Named colours as regions of CIE Lab: hue, chroma and lightness, as people name them."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors.clip import Floats


class Colour(IntEnum):
    """A region of Lab; every Lab value lies in exactly one."""

    BLACK = 0
    GREY = 1
    WHITE = 2
    RED = 3
    ORANGE = 4
    YELLOW = 5
    GREEN = 6
    CYAN = 7
    BLUE = 8
    PURPLE = 9
    BROWN = 10
    PALE = 11


# Upper ends of the hue sectors, degrees of atan2(b, a); the circle closes in red.
_HUES = np.array([48.0, 76.0, 112.0, 175.0, 252.0, 304.0, 345.0])
_SECTORS = np.array(
    [
        Colour.RED,
        Colour.ORANGE,
        Colour.YELLOW,
        Colour.GREEN,
        Colour.CYAN,
        Colour.BLUE,
        Colour.PURPLE,
        Colour.RED,
    ],
    np.int8,
)


def name(lab: Floats) -> NDArray[np.int8]:
    """The `Colour` of each Lab value: `(..., 3)` to `(...)`."""
    lightness, a, b = np.moveaxis(lab, -1, 0)
    chroma = np.hypot(a, b)
    hue = np.degrees(np.arctan2(b, a)) % 360.0
    named = _SECTORS[np.searchsorted(_HUES, hue)]
    dull = (chroma < 62.0) & (lightness < 72.0) & (hue > 44.0) & (hue < 95.0)
    named = np.where(dull, np.int8(Colour.BROWN), named)
    tinted = (chroma < 40.0) & (lightness > 66.0) & (hue > 76.0) & (hue < 175.0)
    tinted |= (chroma < 42.0) & (lightness > 30.0) & (hue > 252.0) & (hue < 304.0)
    named = np.where(tinted, np.int8(Colour.PALE), named)
    pale = (chroma < 14.0) | ((lightness > 90.0) & (chroma < 18.0))
    pale |= (lightness < 14.0) & (chroma < 24.0)  # too dark to see a hue
    grey = np.where(lightness < 30.0, Colour.BLACK, Colour.GREY)
    grey = np.where(lightness > 84.0, Colour.WHITE, grey)
    return np.where(pale, grey, named).astype(np.int8)
