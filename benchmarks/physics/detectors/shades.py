"""The colour of a thing: its commonest shade, and how far it strays from it."""

import numpy as np

from benchmarks.physics.detectors.clip import Floats, distance
from benchmarks.physics.detectors.smears import HALF

ALIKE = 20.0
"""Lab distance within which shades of one colour lie."""


def commonest(values: Floats, most: int = 200) -> Floats:
    """The colour `(3,)` with most others of `(N, 3)` near it: faces and outlines do not count."""
    values = values[:: -(-len(values) // most)]
    near = distance(values[:, None], values[None]) < 0.5 * ALIKE
    crowd: Floats = np.median(values[near[near.sum(1).argmax()]], axis=0)
    return crowd


def usual_colour(colour: Floats) -> Floats:
    """The median `(3,)` of colours `(N, 3)` that are known; NaN where none is."""
    known = colour[~np.isnan(colour[:, 0])]
    return np.median(known, axis=0) if len(known) else np.full(3, np.nan)


def strayed(values: Floats, usual: Floats, ground: Floats | None = None) -> float:
    """How far the quarter of some pixels `(N, 3)` nearest to a colour is from it, Lab: so that a
    face, an outline and blurred edges do not count; nor, if given, the scenery behind `(N, 3)`."""
    if ground is not None:
        way = usual - ground
        share = ((values - ground) * way).sum(1) / np.maximum((way * way).sum(1), 1.0)
        values = values + np.clip(1.0 - share, 0.0, 1.0 - HALF)[:, None] * way
    return float(np.quantile(distance(values, usual), 0.25))
