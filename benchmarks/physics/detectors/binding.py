"""C2 and P1: every thing has the colour that the caption gives it, before the asked background."""

import numpy as np

from benchmarks.physics.detectors import colours
from benchmarks.physics.detectors.colours import Colour
from benchmarks.physics.detectors.haze import CLEAR
from benchmarks.physics.detectors.immutability import outline
from benchmarks.physics.detectors.motion import visible
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading
from benchmarks.physics.detectors.shades import ALIKE, usual_colour

LASTS, AMISS = 5, 0.04
"""Frames for which a thing must have another form to have changed it, and the share of its
rectangle by which it may be amiss in so few, where others pass before it, or in a smear."""


def colour(reading: Reading, name: str, slot: str = "colour") -> Findings:
    """The share of frames in which a thing has another colour than the caption's."""
    asked, thing = reading.colour(slot), reading.parts[name]
    if asked is None:
        return {}
    if not thing.seen.any():
        return {"C2.colour": ABSENT}
    known = thing.seen & ~np.isnan(thing.colour[:, 0])
    # A shade of its usual colour is no other colour, though it may lie beyond a region's edge.
    usual, own = usual_colour(thing.colour[known]), thing.colour[known]
    shade = np.linalg.norm(own - usual, axis=1) < ALIKE
    wrong = colours.name(np.where(shade[:, None], usual, own).astype(np.float32)) != asked
    frame = int(np.flatnonzero(known)[wrong.argmax()]) if wrong.any() else 0
    return {"C2.colour": Finding(float(wrong.mean()), frame)}


def form(reading: Reading, name: str, fill: tuple[float, float]) -> Findings:
    """How far the share of its rectangle that a thing fills lies outside a range: a disc fills
    0.785, an upright square 1, so that a colour on the wrong shape is seen."""
    thing = reading.parts[name]
    if not thing.seen.any():
        return {"C2.form": ABSENT}
    at = visible(thing)
    at = at if len(at) >= LASTS else np.flatnonzero(thing.seen)
    share = outline(thing)[2][at]
    off = np.maximum(fill[0] - share, share - fill[1])
    value = float(np.median(off))
    if reading.haze > CLEAR:
        value -= AMISS
    elif len(off) > LASTS:
        value = max(value, float(np.sort(off)[-LASTS]) - AMISS)
    return {"C2.form": Finding(value, int(at[off.argmax()]))}


def place(reading: Reading) -> Findings:
    """Whether sky and ground are those of the asked background: 0 or 1."""
    if "background" not in reading.expect:
        return {}
    picture, horizon = reading.stage.picture, reading.stage.horizon
    sky = np.median(picture[: max(1, horizon - 2)], axis=(0, 1))
    ground = np.median(picture[horizon + 2 :], axis=(0, 1))
    found = background(sky, ground)
    return {"P1.place": Finding(float(found != reading.expect["background"]))}


def background(
    sky: "np.typing.NDArray[np.float32]", ground: "np.typing.NDArray[np.float32]"
) -> str:
    """The place that colours of sky and ground `(3,)` suggest: dark is night, a green ground a
    meadow, a bright warm ground a desert, a darker one a room."""
    if sky[0] < 38.0:
        return "night"
    if colours.name(ground) == Colour.GREEN or ground[1] < -8.0:
        return "meadow"
    return "desert" if ground[0] > 62.0 else "room"
