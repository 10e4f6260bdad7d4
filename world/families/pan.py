"""The camera moves sideways past a tree: everything else moves the other way, the near faster.

Exact state: `camera` `(T,)` is the way that the camera has gone, positive to the right, at
constant speed. What lies at parallax p is at x = x(0) - p `camera`: the tree (`tree` `(T, 2)`, the
middle of its crown, p = 1; `crown` is its radius), the hills or the pictures on the wall behind
(`far` `(T, N, 2)`, p = `far_parallax`, from 0.35 to 0.55), the tufts in front (`tufts` `(T, M, 2)`,
p = `near_parallax`, from 1.3 to 1.6) and the cloud, sun, moon or window (`ornament` `(T, 2)`,
p = `sky_parallax`).
"""

import numpy as np

from world import shapes
from world.families.face import draw_face
from world.painter import Canvas, over_frames, shadow
from world.palette import BACKGROUNDS, WOOD, Floats, outline_of, sample_colour

FAR_SPACING, NEAR_SPACING = 0.42, 0.27
PUFFS = ((-0.52, 0.20, 0.52), (0.52, 0.20, 0.52), (0.0, -0.30, 0.68), (0.0, 0.30, 0.60))
INDOORS = list(BACKGROUNDS).index("room")


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The camera's way and where everything stands while it passes."""
    way = 1.0 if slots["direction"] == "right" else -1.0
    crown = rng.uniform(10.0, 12.5) / 64
    margin = 1.08 * crown
    travel = rng.uniform(0.34, 1.0 - 2.0 * margin - 0.02)
    camera = way * np.linspace(0.0, travel, frames)
    start = rng.uniform(margin + travel, 1.0 - margin)
    tree_x = (start if way > 0 else 1.0 - start) - camera
    height = rng.uniform(9.0, 13.0) / 64
    far, near, sky = rng.uniform((0.35, 1.3, 0.12), (0.55, 1.6, 0.2)).tolist()
    indoors = slots["background"] == "room"
    sky = far if indoors else sky
    tufts = _row(rng, NEAR_SPACING, near * camera)
    tufts_y = np.minimum(floor + rng.uniform(2.5, 5.0, tufts.shape[1]) / 64, 1.0 - 2.0 / 64)
    hills = _row(rng, FAR_SPACING, far * camera)
    hills_y = rng.uniform(0.42, 0.52, hills.shape[1]) if indoors else np.full(hills.shape[1], floor)
    ornament = rng.uniform(0.3, 0.7) - sky * (camera - camera[frames // 2])
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "camera": camera,
        "tree": np.stack([tree_x, np.full(frames, floor - height - crown)], axis=1),
        "crown": np.array(crown),
        "far": np.stack(np.broadcast_arrays(hills, hills_y), axis=2),
        "far_size": rng.uniform((0.16, 0.16), (0.24, 0.24), (hills.shape[1], 2)),
        "far_parallax": np.array(far),
        "tufts": np.stack(np.broadcast_arrays(tufts, tufts_y), axis=2),
        "tuft_size": rng.uniform(1.6, 2.4, (tufts.shape[1],)) / 64,
        "near_parallax": np.array(near),
        "ornament": np.stack([ornament, np.full(frames, rng.uniform(0.12, 0.2))], axis=1),
        "sky_parallax": np.array(sky),
    }


def _row(rng: np.random.Generator, spacing: float, moved: Floats) -> Floats:
    """Places x `(T, N)` in a row wide enough to fill the frame while it moves by `moved` `(T,)`."""
    first, last = min(0.0, moved[-1]) - spacing, max(0.0, moved[-1]) + 1.0 + spacing
    places = np.arange(first, last, spacing) + rng.uniform(0.0, spacing)
    places += rng.uniform(-0.15, 0.15, len(places)) * spacing
    row: Floats = places - moved[:, None]
    return row


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """From far to near: hills or pictures, the tree with its face, tufts."""
    _draw_far(canvas, state)
    crown, tree, floor = float(state["crown"]), state["tree"], float(state["floor"])
    under = np.stack([tree[:, 0], np.full(canvas.frames, floor)], axis=1)
    shadow(canvas, under, 0.9 * crown, 0.3)
    _draw_trunk(canvas, tree, floor)
    with canvas.patch(tree, (1.1 * crown, 1.1 * crown)) as patch:
        x, y = patch.x / crown, patch.y / crown
        leaves = shapes.union(*(shapes.circle(x - dx, y - dy, r) for dx, dy, r in PUFFS))
        colour = state["colour"]
        patch.ink(leaves * crown, colour, outline_of(colour))
        draw_face(patch, 0.72 * crown, colour)
    _draw_tufts(canvas, state)


def _draw_trunk(canvas: Canvas, tree: Floats, floor: float) -> None:
    half, wood = 0.5 * (floor - float(tree[0, 1])), np.array(WOOD)
    with canvas.patch(tree + (0.0, half), (4.0 / 64, half + 1.5 / 64)) as patch:
        trunk = shapes.rectangle(patch.x, patch.y, 2.1 / 64, half, 0.0)
        root = shapes.ellipse(patch.x, patch.y - half, 3.8 / 64, 1.5 / 64)
        patch.ink(shapes.smooth_union(trunk, root, 1.5 / 64), wood, 0.6 * wood)


def _draw_far(canvas: Canvas, state: dict[str, Floats]) -> None:
    """Hills stand behind the horizon; pictures hang on the wall."""
    _, haze, ground, _ = state["sky_and_ground"]
    horizon = float(state["horizon"])
    indoors = int(state["ornament_kind"]) == INDOORS
    for k, (rx, ry) in enumerate(state["far_size"].tolist()):
        with canvas.patch(state["far"][:, k], (rx, ry)) as patch:
            if indoors:
                frame = shapes.rectangle(patch.x, patch.y, 0.38 * rx, 0.3 * ry, 0.01)
                patch.ink(frame, 0.84 * haze, 0.66 * haze)
                continue
            above = patch.y + over_frames(state["far"][:, k, 1]) - np.float32(horizon)
            hill = np.maximum(shapes.ellipse(patch.x, patch.y, rx, ry), above)
            patch.fill(hill, 0.88 * (0.2 * haze + 0.8 * ground))


def _draw_tufts(canvas: Canvas, state: dict[str, Floats]) -> None:
    near = 0.76 * state["sky_and_ground"][3]
    for k, size in enumerate(state["tuft_size"].tolist()):
        with canvas.patch(state["tufts"][:, k], (1.6 * size, size)) as patch:
            patch.fill(shapes.ellipse(patch.x, patch.y, 1.5 * size, 0.6 * size), near)
