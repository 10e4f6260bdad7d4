"""A scene: a caption and the exact state of every frame, all from one seed."""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from world import captions
from world.families import FAMILIES
from world.palette import BACKGROUND_JITTER, BACKGROUNDS
from world.timing import NUM_FRAMES

State = dict[str, NDArray[np.float64]]

# Never trained on: one colour for each (direction, background), another in each family. A ball
# that is dropped has no direction: one colour for each background.
HELD_OUT: dict[str, frozenset[tuple[str, ...]]] = {
    "bite": frozenset(
        {
            ("red", "left", "meadow"),
            ("blue", "right", "meadow"),
            ("green", "left", "desert"),
            ("purple", "right", "desert"),
            ("orange", "left", "night"),
            ("yellow", "right", "night"),
            ("black", "left", "room"),
            ("white", "right", "room"),
        }
    ),
    "walk": frozenset(
        {
            ("white", "left", "meadow"),
            ("orange", "right", "meadow"),
            ("black", "left", "desert"),
            ("red", "right", "desert"),
            ("purple", "left", "night"),
            ("green", "right", "night"),
            ("blue", "left", "room"),
            ("yellow", "right", "room"),
        }
    ),
    "drop": frozenset(
        {
            ("purple", "meadow"),
            ("blue", "desert"),
            ("white", "night"),
            ("green", "room"),
        }
    ),
    "beside": frozenset(
        {
            ("yellow", "left", "meadow"),
            ("black", "right", "meadow"),
            ("orange", "left", "desert"),
            ("white", "right", "desert"),
            ("red", "left", "night"),
            ("blue", "right", "night"),
            ("green", "left", "room"),
            ("purple", "right", "room"),
        }
    ),
}


@dataclass(frozen=True)
class Scene:
    """One clip before it is drawn; `state` alone decides its pixels.

    Lengths in `state` are in parts of the frame's side, x to the right and y down; times are in
    frames; arrays that change have the frame as their first axis; colours are RGB in [0, 1].
    """

    family: str
    seed: int
    caption: str
    slots: dict[str, str]
    state: State


def combination(family: str, slots: dict[str, str]) -> tuple[str, ...]:
    """What is held out or not: colour, direction where the family has one, background."""
    names = ("colour", "direction", "background")
    return tuple(slots[name] for name in names if name in slots)


def sample(family: str, seed: int, held_out: bool = False) -> Scene:
    """The scene of a family that belongs to a seed.

    `held_out` chooses between the combinations kept for training (False) and the ones that are
    never trained on (True; the caption then always names the background). Raises `ValueError`
    for an unknown family or a negative seed.
    """
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; the world has {', '.join(FAMILIES)}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or greater")
    rng = np.random.default_rng([seed, held_out, *family.encode()])
    slots = _sample_slots(rng, family, held_out)
    name_background = bool(rng.random() < 0.5) or held_out
    state = _sample_stage(rng, slots["background"])
    state |= FAMILIES[family].sample(rng, slots, float(state["floor"]))
    return Scene(family, seed, captions.caption(family, slots, name_background), slots, state)


def _sample_slots(rng: np.random.Generator, family: str, held_out: bool) -> dict[str, str]:
    names = captions.slot_names(captions.TEMPLATES[family] + captions.BACKGROUND_SUFFIX)
    fixed = [name for name in names if name != "other_colour"]
    options = [
        combo
        for combo in product(*(captions.CHOICES[name] for name in fixed))
        if (combo in HELD_OUT[family]) == held_out
    ]
    slots = dict(zip(fixed, options[rng.integers(len(options))], strict=True))
    if "other_colour" in names:
        others = [name for name in captions.CHOICES["other_colour"] if name != slots["colour"]]
        slots["other_colour"] = others[rng.integers(len(others))]
    return slots


def _sample_stage(rng: np.random.Generator, background: str) -> State:
    """Sky, ground and one faint ornament; `floor` is where actors stand, below the horizon."""
    colours = np.array(BACKGROUNDS[background])
    colours += rng.uniform(-BACKGROUND_JITTER, BACKGROUND_JITTER, 3)
    horizon = rng.uniform(0.70, 0.77)
    return {
        "sky_and_ground": np.clip(colours, 0.0, 1.0),
        "horizon": np.array(horizon),
        "floor": np.array(horizon + rng.uniform(0.09, 0.13)),
        "ornament": np.array([rng.uniform(0.12, 0.88), rng.uniform(0.12, 0.26)]),
        "ornament_kind": np.array(list(BACKGROUNDS).index(background)),
        "frames": np.array(NUM_FRAMES),
    }
