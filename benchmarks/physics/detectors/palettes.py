"""Which colours to look for: the caption's, or, where it fails, those that are there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.physics.detectors import colours
from benchmarks.physics.detectors.clip import Clip, Floats
from benchmarks.physics.detectors.colours import Colour
from benchmarks.physics.detectors.parts import Part, Want, core, solid
from benchmarks.physics.detectors.parts import divide as share_out
from benchmarks.physics.detectors.smears import Looks
from benchmarks.physics.detectors.stage import Stage


@dataclass(frozen=True)
class Thing(Want):
    """A thing whose colour may be that of a slot of the caption."""

    slot: str = ""


def divide(
    clip: Clip, stage: Stage, things: Mapping[str, Thing], expect: Mapping[str, str]
) -> tuple[dict[str, Part], Floats]:
    """Share a clip out among things by the colours of its caption.

    A family of one thing gives it all there is, whatever its colour, unless it stands among others
    that are not asked for. Where one thing is not seen in half of the frames, or its colour was
    left open, the commonest colour that nobody asked for is its own too: so that a clip with a
    wrong colour, or one that changes, can still be judged by the laws.
    """
    wanted = {name: _named(thing, expect) for name, thing in things.items()}
    open_ = [name for name, thing in things.items() if thing.slot and not wanted[name].colours]
    if not open_:
        found = share_out(clip, stage, wanted)
        open_ = [n for n, t in things.items() if t.slot and found[0][n].seen.mean() < 0.5]
        if not open_:
            return found
    taken = [want.colours for name, want in wanted.items() if name not in open_]
    given = frozenset().union(*taken)
    for name in open_:
        asked = wanted[name].colours
        if free := _commonest(clip, stage, wanted[name], given | asked):
            wanted[name] = replace(wanted[name], colours=asked | {free})
            given |= {free}
    return share_out(clip, stage, wanted)


def knowing(things: Mapping[str, Thing], parts: Mapping[str, Part]) -> dict[str, Thing]:
    """The same things with what the compact ones were found to look like, for a second look."""
    return {
        name: replace(thing, looks=_looks(thing, parts[name])) for name, thing in things.items()
    }


def _looks(thing: Thing, found: Part) -> Looks | None:
    known = found.seen & ~np.isnan(found.colour[:, 0])
    if not thing.compact or known.sum() < 3:
        return None
    lightness, a, b = np.median(found.colour[known], axis=0).tolist()
    # Smears make a thing larger: of the frames in which nothing hides it, a quarter shows it best.
    area = found.area[known]
    area = area[area > 0.7 * np.median(area)]
    return Looks((lightness, a, b), float(np.sqrt(np.quantile(area, 0.25) / np.pi)))


def _named(thing: Thing, expect: Mapping[str, str]) -> Want:
    if thing.slot in expect:
        return replace(thing, colours=frozenset({Colour[expect[thing.slot].upper()]}))
    return thing


def _commonest(clip: Clip, stage: Stage, want: Want, taken: frozenset[Colour]) -> Colour | None:
    """The commonest colour of what might be a thing, of those not yet taken; None if all is."""
    there = solid(stage)
    names = np.where(there, colours.name(clip.lab), np.int8(-1))
    sizes = {
        colour: int(core(there & (names == colour), want, stage.horizon).sum())
        for colour in Colour
        if colour not in taken
    }
    most = max(sizes, key=lambda colour: sizes[colour])
    return most if sizes[most] > 6 * len(there) else None
