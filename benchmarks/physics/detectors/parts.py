"""The things in a clip: soft masks, areas, centres and colours, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.physics.detectors import colours
from benchmarks.physics.detectors.clip import Clip, Floats, distance
from benchmarks.physics.detectors.colours import Colour
from benchmarks.physics.detectors.holes import filled
from benchmarks.physics.detectors.shades import ALIKE, commonest, strayed, usual_colour
from benchmarks.physics.detectors.smears import (
    HALF,
    Looks,
    around,
    blend,
    firm,
    modes,
    places,
    strength,
    within,
)
from benchmarks.physics.detectors.stage import Stage

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]
SOLID = 9.0
"""Lab distance from the scenery from which a pixel belongs to something."""
PALE = 5.5
"""The same where it has the colour of a known thing."""
REACH, JOINED_REACH = 6.0, 10.0
"""Pixels from the coloured core of a thing to its farthest detail: eyes, ears, outlines; farther
where both are of one piece, as a tail."""
FAINT = 0.25
"""The share of a thing's usual contrast under which a pixel is a halo or a blur of it."""
OUTLINE = 3
"""Pixels that an outline is thick, at the most."""
EVEN = 0.08
"""By how much the depth of one shadow differs from place to place, as a share of the light."""
NOBODY, OTHER = -1, -2
"""Owners of pixels that no thing has yet, and that none may have."""
FLAT = np.zeros((3, 3, 3), bool)
FLAT[1] = True
"""Neighbours within a frame, not across frames."""


class Place(NamedTuple):
    """What is `near (T, H, W)` the place of a compact thing in a smeared clip, and its `doubt`."""

    near: Mask
    doubt: Floats


@dataclass(frozen=True)
class Part:
    """One thing: `mask (T, H, W)` in [0, 1], `area (T,)` and `centre (T, 2)` x, y in pixels.

    `colour (T, 3)` is its commonest Lab, `body (T,)` how many pixels have it, `drift (T,)` how far
    the quarter of it that is nearest to its usual colour is from that, `copies (T,)` in how many
    separate pieces of like size it is seen, `seen (T,)` whether it is there. Where it is not,
    centre, colour and drift are NaN. `doubt (T, 2)` is how far above and below its centre it may
    be, in pixels, as far as a smear tells.
    """

    mask: Floats
    area: Floats
    centre: Floats
    colour: Floats
    body: Floats
    drift: Floats
    copies: NDArray[np.int64]
    seen: Mask = field(repr=False)
    doubt: Floats = field(repr=False)


@dataclass(frozen=True)
class Want:
    """What to look for: pixels of some colours, of any where there are none.

    What is not `thick` pixels thick is not its own; nothing farther than `reach` pixels from its
    colours is; a `scattered` thing keeps its small pieces too; a `standing` one reaches down to
    the ground, and the shadow that it casts there is not its own; a `hanging` one reaches up to the
    upper border; a `compact` one is a disc or a square, so that what is far fainter is its halo; a
    `plain` one is of one shade, of which other things of its colour are not; a `still` one never
    moves, so that what passes is not its own. `looks` are known for a second look: then blends of
    its colour with the scenery are its own too.
    """

    colours: frozenset[Colour] = frozenset()
    thick: int = 1
    reach: float = np.inf
    scattered: bool = False
    standing: bool = False
    hanging: bool = False
    compact: bool = False
    plain: bool = False
    still: bool = False
    looks: Looks | None = None


def solid(stage: Stage, mixed: Sequence[Floats] = ()) -> Mask:
    """What stands out from the scenery and is no shadow, `(T, H, W)`; lone pixels are dropped.

    What has half of the colour of a known thing need not stand out as far: the thing itself may not
    by much.
    """
    out: Mask = (stage.contrast > SOLID) & ((stage.shadow == 0) | (stage.contrast > 60.0))
    for share in mixed:
        out |= (share > HALF) & (stage.contrast > PALE) & (stage.shadow == 0)
    out &= ndimage.uniform_filter(out.astype(np.float32), (0, 3, 3)) > 2.5 / 9.0
    return out


def pieces(mask: Mask) -> tuple[Labels, NDArray[np.int64]]:
    """Connected pieces within each frame: labels from 1, and sizes by label."""
    labels, _ = ndimage.label(mask, FLAT)
    return labels, np.bincount(labels.ravel())


def divide(clip: Clip, stage: Stage, wanted: Mapping[str, Want]) -> tuple[dict[str, Part], Floats]:
    """Share all that is solid out among the wanted things.

    Each thing grows from its core, the pixels of its colours; details such as eyes go to the
    nearest core.

    Returns:
        The things, and `(T,)` the area that belongs to none.
    """
    mixed = [blend(clip, stage, want.looks) for want in wanted.values()]
    there = solid(stage, mixed)
    wants = list(wanted.values())
    owner = _grown(_cores(clip, stage, wants, there, mixed), there, wants)
    at = _kept(owner, stage, wants, mixed)
    parts = {
        name: part(clip, stage, owner == k, (owner == k) | (owner == NOBODY), at.get(k))
        for k, name in enumerate(wanted)
    }
    strange = there & (owner == NOBODY)
    if at:
        most = max(strength(stage, owner == k).max() for k in at)
        strange &= stage.contrast > HALF * most  # what is fainter is a ghost
    return parts, strange.sum((1, 2)).astype(np.float32)


def _cores(
    clip: Clip, stage: Stage, wants: Sequence[Want], there: Mask, mixed: Sequence[Floats]
) -> NDArray[np.int8]:
    """Who owns the pixels of each thing's colours `(T, H, W)`.

    What wants any colour gets what those that want some have left.
    """
    names = np.where(there, colours.name(clip.lab), np.int8(-1))
    owner = np.full(there.shape, NOBODY, np.int8)
    for k, want in sorted(enumerate(wants), key=lambda item: not item[1].colours):
        free = there & (owner == NOBODY)
        others = [other.colours for other in wants if other is not want]
        own = np.isin(names, list(want.colours)) if want.colours else free
        own |= (mixed[k] > HALF) & ~np.isin(names, list(frozenset().union(*others)))
        own &= free
        if want.plain and own.any():
            own = _of_one_shade(clip, own)
        if want.still:
            own &= ndimage.binary_dilation(own.mean(0) > 0.5, FLAT[1])
        own = core(own, want, stage.horizon)
        if want.standing:
            cast = _cast(clip, stage, own)
            owner[cast] = OTHER
            own &= ~cast
        owner[own] = k
    return owner


def _of_one_shade(clip: Clip, own: Mask) -> Mask:
    """What of some pixels `(T, H, W)` has the shade of the thickest of them, and not rather that of
    others of their colour; what is next to it may be its edge."""
    deep = own * np.stack([ndimage.distance_transform_edt(frame) for frame in filled(own)])
    shade = commonest(clip.lab[deep > 0.7 * deep.max()])
    off = distance(clip.lab, shade)
    near = ndimage.binary_dilation(own & (off < 0.5 * ALIKE), FLAT, iterations=OUTLINE)
    others = own & ~near
    own = own & (off < 1.25 * ALIKE)
    if others.sum() > 6 * len(own):
        own &= off < distance(clip.lab, commonest(clip.lab[others]))
    return np.asarray(own)


def _cast(clip: Clip, stage: Stage, own: Mask) -> Mask:
    """The deep shadow `(T, H, W)` that a thing casts on the ground.

    It is as deep as it is beside the thing and not of the shade that the thing has before the sky:
    either may be as dark as the other. Where darkness is but a pixel thick it may be an edge.
    """
    deep = stage.deep > 0.0
    beside = stage.deep[deep & ~ndimage.binary_dilation(own, FLAT, iterations=2)]
    above = own[:, : stage.horizon]
    if len(beside) < 8 * len(own) or not above.any():
        return np.zeros_like(own)
    shade = commonest(clip.lab[:, : stage.horizon][above])
    other = distance(clip.lab, shade) > 0.25 * ALIKE
    alike = deep & (np.abs(stage.deep - np.median(beside)) < EVEN) & other
    thick = ndimage.binary_opening(alike | (stage.shadow > 0.0), np.ones((1, 2, 2), bool))
    return np.asarray(alike & thick)


def _grown(owner: NDArray[np.int8], there: Mask, wants: Sequence[Want]) -> NDArray[np.int8]:
    """Owners once details have gone to the nearest core; what is still has its rim alone."""
    labels, sizes = pieces(there)
    owner = _whole(owner, labels, wants)
    still = np.isin(owner, [k for k, want in enumerate(wants) if want.still])
    for k, want in enumerate(wants):
        if want.still:
            rim = ndimage.binary_dilation((owner == k).mean(0) > 0.5, FLAT[1])
            owner[there & rim & (owner == NOBODY)] = k
            still |= owner == k
    cores = [(owner == k) & ~still for k in range(len(wants))]
    if not np.any(cores):
        return owner
    homes = np.stack([np.bincount(labels[core], minlength=len(sizes)) > 0 for core in cores])
    # What is of one piece with one core alone is that one's, however near another may be.
    elsewhere = ~homes & (homes.sum(0) == 1)
    fars = np.stack([_far(core, no[labels]) for core, no in zip(cores, elsewhere, strict=True)])
    far, nearest = fars.min(0), fars.argmin(0).astype(np.int8)
    joined = np.isin(labels, np.unique(labels[owner >= 0]))
    own_reach = np.array([want.reach for want in wants])
    reach = np.minimum(np.where(joined, JOINED_REACH, REACH), own_reach[nearest])
    grown = np.where(there & (far <= reach), nearest, np.int8(NOBODY))
    grown = np.where(still | (owner == OTHER), owner, grown)
    # The outline of what is all but hidden shows no colour to tell whose it is.
    beside = ndimage.binary_dilation(still, FLAT, iterations=OUTLINE + 1)
    return np.where(beside & (grown == NOBODY), np.int8(OTHER), grown)


def _whole(owner: NDArray[np.int8], labels: Labels, wants: Sequence[Want]) -> NDArray[np.int8]:
    """Owners without what is of a compact thing's colour on another thing, where it is seen apart
    from that: it is the other's outline."""
    owner = owner.copy()
    most = int(labels.max()) + 1
    for k, want in enumerate(wants):
        if want.compact:
            own, others = (
                np.bincount(labels[who], minlength=most) for who in (owner == k, owner >= 0)
            )
            others -= own
            apart = (own > 0) & (others == 0)
            seen = apart[labels].any((1, 2), keepdims=True)
            owner[(owner == k) & (others > own)[labels] & seen] = NOBODY
    return owner


def _far(core: Mask, elsewhere: Mask) -> Floats:
    """Pixels `(T, H, W)` from a core in the same frame; without end where it has no claim."""
    far = ndimage.distance_transform_edt(~core, sampling=(1000, 1, 1))
    return np.where(elsewhere | (not core.any()), np.inf, far)


def _kept(
    owner: NDArray[np.int8], stage: Stage, wants: Sequence[Want], mixed: Sequence[Floats]
) -> dict[int, Place]:
    """Take from each thing what is too thin, or a halo; where those that were looked at are."""
    at: dict[int, Place] = {}
    for k, want in enumerate(wants):
        if want.thick > 1:
            thin = (owner == k) & ~broad(owner == k, want.thick)
            owner[thin] = OTHER
        if want.compact:
            own = owner == k
            kept = firm(stage, own)
            if not want.looks:  # where nothing is firm there is nothing to have a halo
                kept |= own & ~kept.any((1, 2), keepdims=True)
            else:
                plain = np.minimum(stage.contrast / np.maximum(strength(stage, own), SOLID), 1.0)
                likeness = own * np.maximum(plain, mixed[k])
                kept &= around(modes(likeness, want.looks.radius), likeness, want.looks.radius)
                spots, doubt = places(kept * likeness**2, 0.95 * want.looks.radius)
                at[k] = Place(within(spots, want.looks.radius + 1.0, own.shape), doubt)
            owner[own & ~kept] = OTHER
        elif not want.scattered:
            owner[(owner == k) & (stage.contrast < FAINT * strength(stage, owner == k))] = OTHER
    return at


def broad(own: Mask, thick: int) -> Mask:
    """What is left of pixels without their thin parts; holes do not count."""
    return np.asarray(ndimage.binary_opening(filled(own), np.ones((1, thick, thick), bool)))


def core(own: Mask, want: Want, horizon: int = 0) -> Mask:
    """Of a thing's pixels those among like neighbours, in pieces of a fair size."""
    if want.scattered:
        return own
    thick = broad(own, want.thick) if want.thick > 1 else own  # while its eyes are yet holes in it
    if want.compact:  # a stripe may leave none of it as thick
        thick |= own & ~thick.any((1, 2), keepdims=True)
    own = own & thick & (ndimage.uniform_filter(own.astype(np.float32), (0, 3, 3)) > 3.5 / 9.0)
    labels, sizes = pieces(own)
    if want.standing or want.hanging:
        # Its outline of another colour may part it from the ground.
        edge = labels[:, max(horizon - OUTLINE, 0) :] if want.standing else labels[:, :2]
        sizes = sizes * np.bincount(np.unique(edge), minlength=len(sizes))
    sizes[0] = 0
    largest = sizes[labels].max((1, 2))
    # Before it comes into view, flecks of its colour on others are none of it.
    least = max(6.0, 0.1 * float(np.median(largest[largest > 0]))) if largest.any() else 6.0
    keep: Mask = sizes[labels] >= np.maximum(least, 0.3 * largest)[:, None, None]
    return keep


def part(clip: Clip, stage: Stage, own: Mask, free: Mask, place: Place | None = None) -> Part:
    """Measure a thing from the pixels `(T, H, W)` that are its own and those that may be.

    In a smeared clip a blend of its colour with the scenery is no change of colour, and its middle
    and colour are those of what is near its `place`.

    Within the thing the mask is 1; at its edge it rises with the contrast, to 1 where the edge is
    as plain as it gets in that frame.
    """
    own = own | (stage.contrast > SOLID) & filled(own)
    inner = ndimage.binary_erosion(own, FLAT)
    frames = len(own)
    colour, body, drift = np.full((frames, 3), np.nan), np.zeros(frames), np.full(frames, np.nan)
    for t in range(frames):
        where = inner[t] if place is None else inner[t] & place.near[t]
        where = where if where.sum() >= 4 else own[t]
        if where.sum() >= 4:
            colour[t] = commonest(clip.lab[t][where])
            alike = distance(clip.lab[t], colour[t]) < ALIKE
            body[t] = (alike & own[t]).sum()
    usual = usual_colour(colour)
    for t in np.flatnonzero(~np.isnan(colour[:, 0])).tolist():
        where = inner[t] if inner[t].sum() >= 4 else own[t]  # an outline has a colour of its own
        ground = stage.picture[where] if place is not None else None
        drift[t] = strayed(clip.lab[t][where], usual, ground)
    rim = ndimage.binary_dilation(own, FLAT) & free
    edge = own & ~inner
    full = np.stack([plain_edge(stage, t, edge[t]) for t in range(frames)])
    ramp = (stage.contrast - 4.0) / np.maximum(full - 4.0, SOLID)[:, :, None]
    mask = np.where(rim & (own | (stage.shadow == 0)), np.clip(ramp, 0.0, 1.0), 0.0)
    mask = np.where(inner, 1.0, mask).astype(np.float32)
    return measure(mask, (colour, body, drift), own, place)


def plain_edge(stage: Stage, t: int, edge: Mask) -> Floats:
    """By row `(H,)`, the contrast of the plainest fifth of an edge `(H, W)` in a frame.

    Before the sky and before the ground an outline has another contrast.
    """
    contrast = stage.contrast[t]
    out = np.zeros(len(edge), np.float32)
    for rows in (slice(0, stage.horizon), slice(stage.horizon, None)):
        values = contrast[rows][edge[rows]]
        if len(values) < 6:
            values = contrast[edge]
        out[rows] = np.quantile(values, 0.8) if len(values) else 0.0
    return out


def measure(
    mask: Floats, shades: tuple[Floats, Floats, Floats], own: Mask, place: Place | None = None
) -> Part:
    """Areas of a soft mask, centres of what of it is at its place; pixel centres lie at + 0.5."""
    frames, height, width = mask.shape
    area = mask.sum((1, 2), dtype=np.float64)
    seen = area >= 6.0
    held = mask if place is None else mask * place.near
    safe = np.where(seen & (held.sum((1, 2)) > 0.0), held.sum((1, 2), dtype=np.float64), np.nan)
    x = (held.sum(1, dtype=np.float64) @ (np.arange(width) + 0.5)) / safe
    y = (held.sum(2, dtype=np.float64) @ (np.arange(height) + 0.5)) / safe
    doubt = np.zeros((frames, 2)) if place is None else place.doubt
    return Part(mask, area, np.stack([x, y], 1), *shades, _copies(own), seen, doubt)


def _copies(own: Mask) -> NDArray[np.int64]:
    """In how many pieces of like size a thing is seen `(T,)`; a stripe of the scenery's colour
    makes two of none."""
    labels, _ = pieces(ndimage.binary_dilation(own, FLAT, iterations=2))
    sizes = np.bincount(labels[own], minlength=int(labels.max()) + 1)
    largest = (sizes[labels] * own).max((1, 2))
    counts = [
        sum(sizes[k] >= max(8.0, 0.3 * largest[t]) for k in np.unique(frame) if k)
        for t, frame in enumerate(labels)
    ]
    return np.array(counts, np.int64)
