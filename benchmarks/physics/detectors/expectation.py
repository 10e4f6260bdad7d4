"""What a caption may ask for: slots and their words."""

from collections.abc import Mapping

from benchmarks.physics.detectors.bite import TIMES
from benchmarks.physics.detectors.count import NUMBERS
from benchmarks.physics.detectors.motion import SPEEDS
from benchmarks.physics.detectors.sides import SIGN

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
WORDS: dict[str, tuple[str, ...]] = {
    "colour": COLOURS,
    "other_colour": COLOURS,
    "direction": tuple(SIGN),
    "other_direction": tuple(SIGN),
    "speed": tuple(SPEEDS),
    "times": tuple(TIMES),
    "legs": tuple(NUMBERS),
    "number": tuple(NUMBERS),
    "background": ("meadow", "desert", "night", "room"),
}
"""The words of each slot; `word` may be any."""


def expectation(slots: Mapping[str, str]) -> dict[str, str]:
    """Slots that detectors understand; `family` is left out.

    Raises `ValueError` for a slot or a word that none of them knows.
    """
    out = {name: word for name, word in slots.items() if name != "family"}
    for name, word in out.items():
        if name != "word" and name not in WORDS:
            raise ValueError(f"slot is {name!r}; allowed are {', '.join((*WORDS, 'word'))}")
        if name != "word" and word not in WORDS[name]:
            raise ValueError(f"{name} is {word!r}; allowed are {', '.join(WORDS[name])}")
    return out
