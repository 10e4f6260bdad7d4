"""A scene: a caption and the exact state of every frame, all from one seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from world import captions
from world.families import CROSSING, FAMILIES
from world.held_out import HELD_OUT
from world.palette import BACKGROUND_JITTER, BACKGROUNDS
from world.timing import MAX_FRAMES, NUM_FRAMES

State = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Scene:
    """One clip before it is drawn; `state` alone decides its pixels.

    Lengths in `state` are in parts of the frame's side, x to the right and y down; times are in
    frames; arrays that change have the frame as their first axis; colours are RGB in [0, 1].

    Only corruptions fill the rest: `changes` are (first, end, part of a state) for the frames in
    which the state is another, with `extras`, parts of a state too, everything is drawn once more
    on top, and `retouches` are applied to the frames `(T, H, W, 3)` once drawn.
    """

    family: str
    seed: int
    caption: str
    slots: dict[str, str]
    state: State
    changes: tuple[tuple[int, int, State], ...] = ()
    extras: tuple[State, ...] = ()
    retouches: tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], ...] = ()


def combination(family: str, slots: Mapping[str, str]) -> tuple[str, ...]:
    """What is held out or not: colour or word, direction, background, where the family has them."""
    names = ("colour", "word", "direction", "background")
    return tuple(slots[name] for name in names if name in slots)


def sample(
    family: str,
    seed: int,
    held_out: bool = False,
    slots: Mapping[str, str] | None = None,
    frames: int = NUM_FRAMES,
) -> Scene:
    """The scene of a family that belongs to a seed.

    `held_out` chooses between the combinations kept for training (False) and the ones that are
    never trained on (True; the caption then always names the background). `slots` restricts the
    draw to scenes with these values, such as `{"times": "once"}`. `frames` are the clip's: 17, or
    more where `longest` allows it. Raises `ValueError` for an unknown family, slot or value, a
    negative seed, slots that no combination has, and frames that are too few or too many.
    """
    if family not in FAMILIES:
        raise ValueError(f"family is {family!r}; the world has {', '.join(FAMILIES)}")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be 0 or greater")
    if not NUM_FRAMES <= frames <= longest(family):
        most = longest(family)
        raise ValueError(f"frames is {frames}; {family} goes on for {NUM_FRAMES} to {most}")
    rng = np.random.default_rng([seed, held_out, *family.encode()])
    drawn = _sample_slots(rng, family, held_out, slots or {})
    name_background = bool(rng.random() < 0.5) or held_out
    state = _sample_stage(rng, drawn["background"]) | {"frames": np.array(frames)}
    state |= FAMILIES[family].sample(rng, drawn, float(state["floor"]), frames)
    return Scene(family, seed, captions.caption(family, drawn, name_background), drawn, state)


def longest(family: str) -> int:
    """The most frames that a clip of a family may have."""
    return NUM_FRAMES if family in CROSSING else MAX_FRAMES


def _sample_slots(
    rng: np.random.Generator, family: str, held_out: bool, wanted: Mapping[str, str]
) -> dict[str, str]:
    options, other_colours = _options(family, held_out, tuple(sorted(wanted.items())))
    slots = dict(options[rng.integers(len(options))])
    if other_colours:
        others = [colour for colour in other_colours if colour != slots["colour"]]
        slots["other_colour"] = others[rng.integers(len(others))]
    return slots


@cache
def _options(
    family: str, held_out: bool, wanted: tuple[tuple[str, str], ...]
) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """All that the slots can be, but for the other colour, and what that can be."""
    names = captions.slot_names(family)
    for name, value in wanted:
        if name not in names:
            raise ValueError(f"slots has {name!r}; {family} has {', '.join(names)}")
        if value not in captions.CHOICES[name]:
            allowed = ", ".join(captions.CHOICES[name])
            raise ValueError(f"slots has {name} {value!r}; allowed is {allowed}")
    choices = {n: captions.CHOICES[n] for n in names} | {n: (value,) for n, value in wanted}
    others = choices.pop("other_colour", ())
    everything = [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]
    options = [
        slots
        for slots in everything
        if (combination(family, slots) in HELD_OUT[family]) == held_out
        and others != (slots.get("colour"),)
    ]
    if not options:
        kind = "held-out" if held_out else "trained"
        raise ValueError(f"slots is {dict(wanted)}; no {kind} combination of {family} has these")
    return options, others


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
    }
