"""Which things a family has, and which laws its clips obey."""

from collections.abc import Callable
from dataclasses import replace

from benchmarks.physics.detectors import binding, sides, steady
from benchmarks.physics.detectors.bite import bites
from benchmarks.physics.detectors.camera import panning, stands
from benchmarks.physics.detectors.collision import collision
from benchmarks.physics.detectors.colours import Colour
from benchmarks.physics.detectors.count import counting
from benchmarks.physics.detectors.falling import one_fall
from benchmarks.physics.detectors.gravity import gravity
from benchmarks.physics.detectors.immutability import immutability
from benchmarks.physics.detectors.legs import walking
from benchmarks.physics.detectors.liquid import pouring
from benchmarks.physics.detectors.melt import melting
from benchmarks.physics.detectors.motion import continuity, grounded, halting, speed, uniform
from benchmarks.physics.detectors.occlusion import free_of, passage
from benchmarks.physics.detectors.order import order
from benchmarks.physics.detectors.palettes import Thing
from benchmarks.physics.detectors.pendulum import pendulum
from benchmarks.physics.detectors.permanence import permanence
from benchmarks.physics.detectors.reading import Findings, Reading
from benchmarks.physics.detectors.shadow import casting
from benchmarks.physics.detectors.text import writing

DISC, SQUARE = (0.70, 0.86), (0.84, 1.08)
"""Shares of its rectangle that a thing may fill to pass for a disc or an upright square."""

GREY, BROWN, BLUE, CYAN = (
    frozenset({colour}) for colour in (Colour.GREY, Colour.BROWN, Colour.BLUE, Colour.CYAN)
)
FIRST = Thing(slot="colour")
BLOCK, OTHER_BLOCK = (Thing(slot=slot, compact=True) for slot in ("colour", "other_colour"))
THINGS: dict[str, dict[str, Thing]] = {
    "bite": {"monster": FIRST, "cookie": Thing(BROWN)},
    "walk": {"cat": Thing()},
    "drop": {"ball": Thing(compact=True)},
    "beside": {"square": BLOCK, "circle": OTHER_BLOCK},
    "roll": {"ball": Thing(compact=True)},
    "hit": {"mover": BLOCK, "target": OTHER_BLOCK},
    "hide": {"wall": Thing(GREY, still=True), "ball": BLOCK},
    "swing": {
        "beam": Thing(BROWN, reach=1.5, hanging=True),
        "bob": Thing(slot="colour", thick=5, compact=True),
    },
    "order": {"ball": BLOCK, "square": OTHER_BLOCK},
    "count": {"balls": Thing()},
    "cat_and_ball": {"cat": FIRST, "ball": replace(OTHER_BLOCK, thick=3)},
    "two_balls": {"ball": BLOCK, "other": OTHER_BLOCK},
    "pour": {"cups": Thing(scattered=True), "water": Thing(BLUE, scattered=True, reach=1.0)},
    "melt": {"ice": Thing(CYAN), "puddle": Thing(BLUE)},
    "sign": {},
    "lamp": {"box": Thing(slot="colour", thick=7, reach=2.5, standing=True)},
    "pan": {"trunk": Thing(BROWN), "crown": Thing(slot="colour", reach=2.5, plain=True)},
}
"""The things of a family; one that is alone may be of any colour."""
ALONE = frozenset(THINGS) - {"sign", "lamp", "pan"}
"""Families in which little else stands out from the scenery."""


def bite(reading: Reading) -> Findings:
    """A monster bites a cookie."""
    return {
        **permanence(reading, "monster"),
        **bites(reading),
        **sides.beside(reading, "monster", "cookie"),
        **binding.colour(reading, "monster"),
    }


def walk(reading: Reading) -> Findings:
    """A cat walks."""
    return {
        **permanence(reading, "cat"),
        **of_gait({**continuity(reading, "cat"), **uniform(reading, "cat")}),
        **immutability(reading, "cat", rigid=False),
        **walking(reading, "cat"),
        **steady.frozen(reading),
        **sides.heading(reading, "cat"),
        **binding.colour(reading, "cat"),
    }


def of_gait(findings: Findings) -> Findings:
    """Findings of a body that sways as it walks; they have bounds of their own."""
    return {f"{name}_gait": found for name, found in findings.items()}


def drop(reading: Reading) -> Findings:
    """A ball falls and bounces."""
    return {
        **permanence(reading, "ball"),
        **gravity(reading, "ball"),
        **continuity(reading, "ball", level=True),
        **immutability(reading, "ball"),
        **binding.colour(reading, "ball"),
        **binding.form(reading, "ball", DISC),
    }


def beside(reading: Reading) -> Findings:
    """A square beside a circle."""
    return {
        **permanence(reading, "square", "circle"),
        **continuity(reading, "square", "circle"),
        **immutability(reading, "square", "circle"),
        **steady.level(reading, "square", "circle"),
        **sides.beside(reading, "square", "circle"),
        **binding.colour(reading, "square"),
        **binding.colour(reading, "circle", "other_colour"),
        **binding.form(reading, "square", SQUARE),
        **binding.form(reading, "circle", DISC),
    }


def roll(reading: Reading) -> Findings:
    """A ball rolls at a named speed."""
    return {
        **rolling(reading, "ball", "colour", "direction"),
        **speed(reading, "ball"),
        **grounded(reading, "ball"),
    }


def rolling(reading: Reading, name: str, colour: str, direction: str) -> Findings:
    """What holds of every ball that rolls."""
    return {
        **permanence(reading, name),
        **continuity(reading, name, even=True),
        **uniform(reading, name),
        **halting(reading, name),
        **steady.frozen(reading),
        **steady.level(reading, name),
        **immutability(reading, name),
        **sides.heading(reading, name, direction),
        **binding.colour(reading, name, colour),
        **binding.form(reading, name, DISC),
    }


def hit(reading: Reading) -> Findings:
    """A ball hits another."""
    return {
        **permanence(reading, "mover", "target"),
        **immutability(reading, "mover", "target"),
        **collision(reading, "mover", "target"),
        **continuity(reading, "mover", "target"),
        **grounded(reading, "mover", "target"),
        **steady.frozen(reading),
        **binding.colour(reading, "mover"),
        **binding.colour(reading, "target", "other_colour"),
    }


def hide(reading: Reading) -> Findings:
    """A ball passes behind a wall."""
    return {
        **passage(reading),
        **grounded(reading, "ball"),
        **immutability(reading, "ball", hidden=~free_of(reading, "ball", "wall")),
        **binding.colour(reading, "ball"),
    }


def swing(reading: Reading) -> Findings:
    """A pendulum swings."""
    return {
        **pendulum(reading),
        **permanence(reading, "bob", alone=False),
        **immutability(reading, "bob"),
        **binding.colour(reading, "bob"),
    }


def in_order(reading: Reading) -> Findings:
    """A ball falls, then a square moves."""
    return {
        **permanence(reading, "ball", "square"),
        **immutability(reading, "ball", "square"),
        **worst_of(
            continuity(reading, "square", even=True),
            continuity(reading, "ball", level=True),
        ),
        **one_fall(reading, "ball"),
        **steady.level(reading, "square"),
        **order(reading, "ball", "square"),
        **sides.heading(reading, "square"),
        **binding.colour(reading, "ball"),
        **binding.colour(reading, "square", "other_colour"),
        **binding.form(reading, "square", SQUARE),
        **binding.form(reading, "ball", DISC),
    }


def count(reading: Reading) -> Findings:
    """Balls stay on the floor."""
    return {**counting(reading), **binding.colour(reading, "balls")}


def cat_and_ball(reading: Reading) -> Findings:
    """A cat walks and a ball rolls."""
    return worst_of(walk(reading), rolling(reading, "ball", "other_colour", "other_direction"))


def two_balls(reading: Reading) -> Findings:
    """Two balls roll."""
    return worst_of(
        rolling(reading, "ball", "colour", "direction"),
        rolling(reading, "other", "other_colour", "other_direction"),
    )


def lamp(reading: Reading) -> Findings:
    """A lamp casts the shadow of a box."""
    return {
        **casting(reading),
        **permanence(reading, "box", alone=False),
        **immutability(reading, "box"),
        **continuity(reading, "box"),
        **binding.colour(reading, "box"),
        **binding.form(reading, "box", SQUARE),
    }


def pan(reading: Reading) -> Findings:
    """The camera pans past a tree."""
    due = 1.0 - stands(reading, "crown")
    return {
        **panning(reading, "crown"),
        **steady.frozen(reading),
        "O1.trunk": permanence(reading, "trunk", due=due, alone=False)["O1.missing"],
        **permanence(reading, "crown", alone=False),
        **continuity(reading, "crown"),
        **uniform(reading, "crown"),
        **immutability(reading, "crown"),
        **binding.colour(reading, "crown"),
    }


def worst_of(first: Findings, other: Findings) -> Findings:
    """The findings of two things, the worse of each name."""
    both = {**first, **other}
    for name in first.keys() & other.keys():
        both[name] = max(first[name], other[name])
    return both


LAWS: dict[str, Callable[[Reading], Findings]] = {
    "bite": bite,
    "walk": walk,
    "drop": drop,
    "beside": beside,
    "roll": roll,
    "hit": hit,
    "hide": hide,
    "swing": swing,
    "order": in_order,
    "count": count,
    "cat_and_ball": cat_and_ball,
    "two_balls": two_balls,
    "pour": pouring,
    "melt": melting,
    "sign": writing,
    "lamp": lamp,
    "pan": pan,
}
