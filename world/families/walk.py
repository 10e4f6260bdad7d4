"""A cat walks: a foot on the ground does not move until it lifts.

With four legs it walks on all fours with a diagonal gait; with two it struts upright, and its
arms are part of its body. Exact state: `hips` and `feet` `(T, legs, 2)`, `stance` `(T, legs)` is 1
while a foot stands; a standing foot keeps its place. `near` `(legs,)` is 1 for the legs on the
viewer's side. The middle of the `body` `(T, 2)` moves at constant speed; `unit` is the length that
the cat is drawn in, `upright` 1 for the cat on two legs.
"""

from itertools import pairwise

import numpy as np

from world import shapes
from world.painter import Canvas, Patch, over_frames, shadow
from world.palette import AMBER, INK, IVORY, PINK, Floats, outline_of, sample_colour, shaded

DUTY = 0.6  # the part of a cycle that a foot is on the ground
# Hind and front hips of the near and far side, in cat units (the cat is about 30 long).
HIPS = np.array([[-6.3, 1.5], [6.0, 1.5], [-6.3, 1.5], [6.0, 1.5]])
NEAR = np.array([1.0, 1.0, 0.0, 0.0])
PHASE = np.array([0.0, 0.5, 0.5, 0.0])  # diagonal pairs step together
GAITS = {"four": (HIPS, NEAR, PHASE), "two": (np.full((2, 2), (0.0, 0.5)), NEAR[::2], PHASE[:2])}
STANDING = 10.0  # from the hips' line to the ground, cat units
TAIL = ((-9.0, -1.5), (-13.0, -4.0), (-14.2, -8.0), (-12.8, -11.4))  # root to tip, cat units
FAR_SIDE = 0.9  # feet of the far side are a little higher in the picture, cat units


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The body's path `(T, 2)`, hips and feet `(T, legs, 2)`, who stands `(T, legs)`, the tail."""
    facing = -1.0 if slots["direction"] == "left" else 1.0
    unit = rng.uniform(0.85, 1.01) / 64
    travel = rng.uniform(12.0, 26.0) / 64
    margin = 14.0 * unit
    first = rng.uniform(margin, 1.0 - margin - travel)
    speed = travel / (frames - 1)
    t = np.arange(frames, dtype=np.float64)
    x = first + speed * t if facing > 0 else 1.0 - first - speed * t
    reach = rng.uniform(3.3, 4.0) * unit
    cycle = 2.0 * reach / (DUTY * speed)
    clock = t / cycle + rng.random()
    y = floor - STANDING * unit + 0.22 * unit * np.cos(4.0 * np.pi * clock)
    sway = np.sin(2.0 * np.pi * (t / rng.uniform(9.0, 15.0) + rng.random()))
    gait = GAITS[slots["legs"]]
    hips, feet, stance = _legs(np.stack([x, y], 1), floor, facing, unit, reach, clock, gait)
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "body": np.stack([x, y], 1),
        "unit": np.array(unit),
        "facing": np.array(facing),
        "hips": hips,
        "feet": feet,
        "stance": stance,
        "near": gait[1],
        "upright": np.array(float(slots["legs"] == "two")),
        "tail": sway,
    }


def _legs(
    body: Floats,
    floor: float,
    facing: float,
    unit: float,
    reach: float,
    clock: Floats,
    gait: tuple[Floats, Floats, Floats],
) -> tuple[Floats, Floats, Floats]:
    places, near, offset = gait
    phase = (clock[:, None] + offset) % 1.0
    stance = phase < DUTY
    swing = np.clip((phase - DUTY) / (1.0 - DUTY), 0.0, 1.0)
    # On the ground the foot falls back at the body's speed; in the air it swings forward.
    ahead = np.where(stance, 1.0 - 2.0 * phase / DUTY, -np.cos(np.pi * swing))
    lift = np.where(stance, 0.0, np.sin(np.pi * swing)) * 2.0 * unit
    hips = body[:, None, :] + places * unit * (facing, 1.0)
    foot_x = hips[..., 0] + facing * reach * ahead
    foot_y = floor - FAR_SIDE * unit * (1.0 - near) - lift
    return hips, np.stack([foot_x, foot_y], 2), stance.astype(np.float64)


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """The shadow, the far legs, then the cat in one outline."""
    unit, body = float(state["unit"]), state["body"]
    under = np.stack([body[:, 0], np.full(canvas.frames, float(state["floor"]))], 1)
    upright = bool(state["upright"])
    shadow(canvas, under, (7.0 if upright else 12.0) * unit, 0.26)
    with canvas.patch(body, (18.0 * unit, (25.0 if upright else 16.0) * unit)) as patch:
        draw_cat(patch, state)


def draw_cat(patch: Patch, state: dict[str, Floats]) -> None:
    """A cat seen from the side, with as many legs as the state has."""
    colour, unit = state["colour"], float(state["unit"])
    facing = np.array([state["facing"], 1.0])
    x, y = patch.x * np.float32(facing[0]) / unit, patch.y / unit
    middle = state["body"][:, None, :]
    hips, feet = ((state[k] - middle) * facing / unit for k in ("hips", "feet"))
    legs = [_leg(x, y, hips[:, k], feet[:, k]) for k in range(hips.shape[1])]
    outline = outline_of(colour)
    for leg, near in zip(legs, state["near"], strict=True):
        if not near:
            patch.ink(leg * unit, shaded(colour), outline)
    upright = bool(state["upright"])
    head_x, head_y = (x + 8.6, y + 9.4) if upright else (x, y)
    torso = _sitting(x, y) if upright else shapes.capsule(x, y, (-6.0, -0.4), (5.6, -0.6), 4.3)
    cat = _with_tail(torso, x - 4.4 * upright, y + 0.2 * upright, state["tail"])
    cat = shapes.smooth_union(cat, _head(head_x, head_y), 1.5)
    for leg, near in zip(legs, state["near"], strict=True):
        if near:
            cat = shapes.smooth_union(cat, leg, 1.2)
    patch.ink(cat * unit, colour, outline)
    _draw_face(patch, head_x, head_y, unit, colour)


def _leg(x: Floats, y: Floats, hip: Floats, foot: Floats) -> Floats:
    ankle = foot - (0.0, 1.4)
    toe = foot + (0.9, -1.2)
    shin = shapes.capsule(x, y, over_frames(hip), over_frames(ankle), 1.5)
    return shapes.union(shin, shapes.capsule(x, y, over_frames(ankle), over_frames(toe), 1.2))


def _sitting(x: Floats, y: Floats) -> Floats:
    """An upright body like a pear, with a paw before its chest."""
    belly = shapes.ellipse(x, y + 3.2, 5.6, 5.0)
    chest = shapes.capsule(x, y, (0.2, -5.0), (1.2, -10.0), 3.6)
    paw = shapes.capsule(x, y, (2.0, -7.4), (6.4, -5.8), 1.4)
    return shapes.smooth_union(shapes.smooth_union(belly, chest, 2.0), paw, 0.8)


def _head(x: Floats, y: Floats) -> Floats:
    head = shapes.ellipse(x - 10.2, y + 6.4, 5.7, 5.1)
    for ear, tip in ((7.4, 6.8), (12.6, 13.2)):
        corners = ((ear - 2.1, -9.2), (ear + 2.1, -9.2), (tip, -14.4))
        head = shapes.union(head, shapes.triangle(x, y, corners))
    return head


def _with_tail(torso: Floats, x: Floats, y: Floats, tail: Floats) -> Floats:
    sway = tail[:, None] * (1.2, 0.3)
    joints = [
        over_frames(np.array(joint) + share * sway)
        for joint, share in zip(TAIL, (0.0, 0.2, 0.8, 1.6), strict=True)
    ]
    bones = [shapes.capsule(x, y, a, b, 1.35) for a, b in pairwise(joints)]
    return shapes.smooth_union(torso, shapes.union(*bones), 1.5)


def _draw_face(patch: Patch, x: Floats, y: Floats, unit: float, colour: Floats) -> None:
    white = AMBER if colour.max() < 0.3 else IVORY
    patch.fill(shapes.ellipse(x - 11.7, y + 7.0, 1.9, 2.1) * unit, white)
    patch.fill(shapes.ellipse(x - 12.3, y + 6.9, 1.05, 1.5) * unit, INK)
    patch.fill(shapes.ellipse(x - 15.3, y + 5.2, 1.0, 0.8) * unit, PINK)
