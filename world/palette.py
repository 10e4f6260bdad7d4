"""Named colours and backgrounds: far apart in Lab, each with a small continuous jitter."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.88, 0.15, 0.17),
    "orange": (1.00, 0.53, 0.08),
    "yellow": (1.00, 0.85, 0.10),
    "green": (0.10, 0.60, 0.22),
    "blue": (0.13, 0.38, 0.90),
    "purple": (0.58, 0.24, 0.78),
    "black": (0.11, 0.11, 0.13),
    "white": (0.97, 0.97, 0.98),
}
COLOUR_JITTER = 0.025

COOKIE = (0.78, 0.51, 0.25)
CHIP = (0.33, 0.18, 0.10)
IVORY = (1.00, 0.98, 0.92)
INK = (0.08, 0.07, 0.10)
PINK = (0.95, 0.50, 0.55)
AMBER = (1.00, 0.85, 0.25)
BRICK = (0.56, 0.57, 0.59)
STEEL = (0.42, 0.43, 0.50)
WOOD = (0.60, 0.40, 0.24)
WATER = (0.10, 0.45, 0.92)
ICE = (0.50, 0.94, 0.95)
GLASS = (0.90, 0.95, 0.98)

# Per background: sky at the top, sky at the horizon, ground at the horizon, ground at the bottom.
BACKGROUNDS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "meadow": ((0.58, 0.81, 0.97), (0.68, 0.87, 0.98), (0.58, 0.81, 0.43), (0.50, 0.75, 0.37)),
    "desert": ((0.98, 0.86, 0.63), (1.00, 0.92, 0.74), (0.91, 0.77, 0.54), (0.87, 0.72, 0.49)),
    "night": ((0.07, 0.09, 0.25), (0.14, 0.17, 0.38), (0.15, 0.31, 0.26), (0.12, 0.26, 0.22)),
    "room": ((0.84, 0.78, 0.73), (0.88, 0.82, 0.77), (0.56, 0.38, 0.29), (0.49, 0.32, 0.24)),
}
BACKGROUND_JITTER = 0.012

# A second palette for the same names, and for the things above; only validation uses it.
OTHER_COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.08, 0.10),
    "orange": (0.97, 0.60, 0.17),
    "yellow": (0.97, 0.90, 0.28),
    "green": (0.18, 0.68, 0.28),
    "blue": (0.22, 0.46, 0.97),
    "purple": (0.66, 0.32, 0.86),
    "black": (0.14, 0.14, 0.16),
    "white": (0.94, 0.94, 0.95),
}
OTHER_THINGS = {
    COOKIE: (0.72, 0.46, 0.24),
    CHIP: (0.28, 0.14, 0.08),
    IVORY: (0.96, 0.94, 0.88),
    WATER: (0.16, 0.52, 0.97),
    ICE: (0.44, 0.86, 0.86),
    GLASS: (0.95, 0.96, 0.94),
    WOOD: (0.52, 0.36, 0.25),
    BRICK: (0.63, 0.61, 0.62),
    STEEL: (0.36, 0.40, 0.47),
}
OTHER_BACKGROUNDS: dict[str, tuple[tuple[float, float, float], ...]] = {
    "meadow": ((0.64, 0.85, 0.96), (0.75, 0.91, 0.98), (0.63, 0.84, 0.50), (0.56, 0.79, 0.44)),
    "desert": ((0.97, 0.83, 0.66), (0.99, 0.90, 0.77), (0.87, 0.73, 0.55), (0.82, 0.68, 0.50)),
    "night": ((0.10, 0.08, 0.22), (0.18, 0.17, 0.35), (0.12, 0.26, 0.25), (0.10, 0.22, 0.21)),
    "room": ((0.77, 0.75, 0.67), (0.81, 0.79, 0.71), (0.52, 0.38, 0.32), (0.45, 0.32, 0.27)),
}


def sample_colour(rng: np.random.Generator, name: str) -> Floats:
    """An RGB triple `(3,)` in [0, 1] near the named colour."""
    return np.clip(COLOURS[name] + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3), 0.0, 1.0)


def outline_of(colour: Floats) -> Floats:
    """The outline of an actor `(3,)`: darker than its colour, lighter where that is near black."""
    return colour + 0.30 if colour.max() < 0.3 else _darker(colour, 0.58)


def shaded(colour: Floats) -> Floats:
    """The colour `(3,)` of the parts of an actor that are turned away from the viewer."""
    return _darker(colour, 0.66)


def _darker(colour: Floats, factor: float) -> Floats:
    # Warm colours turn brown rather than olive as they darken, as a painter would have them.
    warmth = max(0.0, float(colour[0] - colour[2]))
    darker: Floats = colour * factor * np.array([1.0, 1.0 - 0.22 * warmth, 1.0])
    return darker
