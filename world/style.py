"""Ways to draw the same state: the plain look, and another that only validation uses."""

from dataclasses import dataclass

import numpy as np

from world.palette import (
    BACKGROUNDS,
    COLOURS,
    OTHER_BACKGROUNDS,
    OTHER_COLOURS,
    OTHER_THINGS,
    Floats,
)

_FROM = np.array([*COLOURS.values(), *OTHER_THINGS, *(c for g in BACKGROUNDS.values() for c in g)])
_TO = np.array(
    [
        *OTHER_COLOURS.values(),
        *OTHER_THINGS.values(),
        *(c for g in OTHER_BACKGROUNDS.values() for c in g),
    ]
)


@dataclass(frozen=True)
class Style:
    """How shapes are painted: `outline` is the width of contours in parts of the side."""

    outline: float
    inked: bool = False
    """Contours are black (light round dark actors), and colours come from the other palette."""

    def paint(self, colour: Floats) -> Floats:
        """The colour `(3,)` that is laid on for a colour of the world.

        In the other palette a colour moves as the named colours round it do, weighted by inverse
        fourth powers of distance (Shepard 1968), so that jitter and shades stay what they are.
        """
        if not self.inked:
            return colour
        weight = 1.0 / (((_FROM - colour) ** 2).sum(1) + 1e-4) ** 2
        painted: Floats = np.clip(colour + weight @ (_TO - _FROM) / weight.sum(), 0.0, 1.0)
        return painted

    def contour(self, colour: Floats, outline: Floats) -> Floats:
        """The colour `(3,)` of the outline round a shape of a colour."""
        if not self.inked:
            return outline
        return np.full(3, 0.62) if colour.max() < 0.3 else np.array((0.05, 0.04, 0.07))


STYLES = {"plain": Style(outline=0.75 / 64), "outline": Style(outline=1.0 / 64, inked=True)}
