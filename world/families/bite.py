"""A monster comes in from one side, bites a cookie once or twice and backs away; the bites stay.

Exact state: a bite k is taken at time `contact[k]`, in frames, and is there in every frame from
then on (`bitten` `(T, K)` is 0 before and 1 after); it is a disc with tooth marks of about
`bite_radius[k]` round `bite_centre[k]`, a point of the cookie's rim on the side the monster comes
from. Two bites do not overlap; between them the monster leaves the cookie free for a frame or more,
then hops up to the second.
"""

import math

import numpy as np

from world import shapes
from world.painter import Canvas, Patch, over_frames, shadow
from world.palette import CHIP, COOKIE, INK, IVORY, Floats, outline_of, sample_colour, shaded
from world.timing import smoothstep

WIDE_OPEN = 0.72  # half the angle of the mouth, radians
APEX = (-0.12, 0.08)  # the corner of the mouth from the middle, in radii
FOOT = 0.16  # how far the feet reach below the body, in radii


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """The cookie and its bites; the monster's path `(T, 2)`, mouth `(T,)` and feet `(T, 2)`."""
    t = np.arange(frames, dtype=np.float64)
    side = -1.0 if slots["direction"] == "left" else 1.0
    radius, cookie_radius = rng.uniform(9.0, 11.0) / 64, rng.uniform(10.0, 13.0) / 64
    cookie = np.array([rng.uniform(28.0, 36.0) / 64, floor - cookie_radius])
    level = floor - radius * (1.0 + FOOT)
    rim_x = np.sqrt(cookie_radius**2 - (level - cookie[1]) ** 2)
    rim = np.array([cookie[0] + side * rim_x, level])
    twice = slots["times"] == "twice"
    bite_radius = (rng.uniform(0.38, 0.44) if twice else rng.uniform(0.50, 0.60)) * cookie_radius
    contact = np.array([rng.uniform(5.5, 8.5)])
    start = 0.5 + side * (0.5 + radius + rng.uniform(0.5, 4.0) / 64)
    reached = rim[0] + side * (radius - 1.08 * bite_radius)
    end = cookie[0] + side * (cookie_radius + radius + rng.uniform(2.5, 7.0) / 64)
    retreat = rng.uniform(3.2, 4.4)
    if twice:
        contact = np.cumsum(rng.uniform((3.6, 4.8), (4.4, 5.4)))
        rim = np.stack([rim, _next_rim(rim, cookie, side, bite_radius)])
        free = cookie[0] + side * (cookie_radius + radius + 2.5 / 64)
        above = rim[1] + (side * (radius - 1.08 * bite_radius), 0.0)
        stops = np.array([(start, level), (reached, level), (free, level), above, (end, level)])
        path, feet = _hopping_path(t, stops, contact, 0.85 * retreat, radius)
    else:
        path, feet = _path(t, level, (start, reached, end), (contact[0], retreat), radius)
    return {
        "colour": sample_colour(rng, slots["colour"]),
        "cookie": cookie,
        "cookie_radius": np.array(cookie_radius),
        "chips": _chips(rng),
        "bite_centre": np.atleast_2d(rim),
        "bite_radius": np.full(len(contact), bite_radius),
        "bitten": (t[:, None] >= contact).astype(np.float64),
        "contact": contact,
        "monster": path,
        "radius": np.array(radius),
        "facing": np.array(-side),
        "mouth": _mouth(t, contact),
        "feet": feet,
    }


def _path(
    t: Floats,
    level: float,
    stops: tuple[float, float, float],
    times: tuple[float, float],
    radius: float,
) -> tuple[Floats, Floats]:
    """In by `contact`, there for a frame, back during `retreat`: middle and lift of the feet."""
    start, reached, end = stops
    contact, retreat = times
    come = np.clip(t / contact, 0.0, 1.0)
    go = np.clip((t - contact - 1.0) / retreat, 0.0, 1.0)
    ease_in, ease_back = 1.0 - (1.0 - come) ** 1.7, go * go * (3.0 - 2.0 * go)
    x = start + (reached - start) * ease_in + (end - reached) * ease_back
    step = 2.0 * np.pi * np.abs(np.cumsum(np.diff(x, prepend=x[0]))) / (1.4 * radius)
    moving = np.abs(np.gradient(x)) > 0.2 / 64
    feet = 0.14 * radius * np.maximum(np.sin(np.stack([step, step + np.pi], 1)), 0.0)
    hop = 0.06 * radius * (1.0 - np.cos(2.0 * step)) * 0.5
    return np.stack([x, level - hop * moving], 1), feet * moving[:, None]


def _next_rim(rim: Floats, cookie: Floats, side: float, bite_radius: float) -> Floats:
    """The point of the rim above a bite at `rim` where the next leaves two pixels between them."""
    out = rim - cookie
    radius = float(np.hypot(*out))
    turn = -side * 2.0 * math.asin((1.03 * bite_radius + 1.1 / 64) / radius)
    cos, sin = math.cos(turn), math.sin(turn)
    turned: Floats = cookie + (cos * out[0] - sin * out[1], sin * out[0] + cos * out[1])
    return turned


def _hopping_path(
    t: Floats, stops: Floats, contact: Floats, retreat: float, radius: float
) -> tuple[Floats, Floats]:
    """In, back until the cookie is free, up to the second bite and down again: as in `_path`."""
    first, second = contact
    down = (t - second - 0.7) / retreat
    parts = [
        1.0 - (1.0 - np.clip(t / first, 0.0, 1.0)) ** 1.7,
        smoothstep((t - first - 0.5) / 1.5),
        smoothstep((t - first - 3.0) / (second - first - 3.0)),
        smoothstep(down),
    ]
    path = stops[0] + np.stack(parts, axis=1) @ np.diff(stops, axis=0)
    step = 2.0 * np.pi * np.cumsum(np.abs(np.diff(path[:, 0], prepend=path[0, 0]))) / (1.4 * radius)
    walking = (t <= first + 2.0) | (down > 0.5)
    feet = 0.14 * radius * np.maximum(np.sin(np.stack([step, step + np.pi], 1)), 0.0)
    return path, feet * walking[:, None]


def _mouth(t: Floats, contacts: Floats) -> Floats:
    """Half the angle of the mouth `(T,)`, radians: opens, snaps shut at a contact, then chews."""
    angle, chewed = np.zeros(len(t)), -np.inf
    for contact in contacts.tolist():
        begin = max(contact - 5.5, chewed)
        open_up = smoothstep((t - begin) / min(4.0, contact - 1.0 - begin))
        opening = 0.12 + (WIDE_OPEN - 0.12) * open_up
        opening *= np.clip((contact - t) / 0.5, 0.0, 1.0)
        chew = 0.10 * (1.0 - np.cos(2.0 * np.pi * (t - contact - 1.0) / 4.0)) * 0.5
        bite = np.where(t < contact, opening, np.where(t > contact + 2.0, chew, 0.0))
        angle, chewed = np.where(t < chewed, angle, bite), contact + 2.0
    return angle


def _chips(rng: np.random.Generator) -> Floats:
    """Chocolate chips `(N, 3)`: x, y and radius in cookie radii, spread so that none touch."""
    count = rng.integers(5, 7)
    angle = 2.0 * np.pi * (np.arange(count) + rng.uniform(-0.18, 0.18, count)) / count
    angle += rng.uniform(0.0, 2.0 * np.pi)
    out = rng.uniform(0.52, 0.66, count)
    ring = np.stack([out * np.cos(angle), out * np.sin(angle), rng.uniform(0.12, 0.16, count)], 1)
    middle = [*rng.uniform(-0.12, 0.12, 2), 0.15]
    return np.vstack([middle, ring])


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """The cookie behind, the monster in front of it."""
    floor, monster = float(state["floor"]), state["monster"]
    cookie = np.broadcast_to(state["cookie"], (canvas.frames, 2))
    for x, reach in ((cookie[:, 0], state["cookie_radius"]), (monster[:, 0], state["radius"])):
        under = np.stack([x, np.full(canvas.frames, floor)], axis=1)
        shadow(canvas, under, 0.95 * float(reach), 0.30)
    draw_cookie(canvas, state)
    room = 1.5 * float(state["radius"])
    with canvas.patch(monster, (room, room)) as patch:
        _draw_monster(patch, state)


def draw_cookie(canvas: Canvas, state: dict[str, Floats]) -> None:
    """A cookie with chips, less the bites that have been taken in each frame."""
    radius = float(state["cookie_radius"])
    with canvas.patch(state["cookie"], (radius, radius)) as patch:
        body = np.repeat(shapes.circle(patch.x, patch.y, radius), 1, axis=0)
        for k, at in enumerate(state["bite_centre"] - state["cookie"]):
            bite = notch(patch, at.tolist(), float(state["bite_radius"][k]))
            taken = over_frames(state["bitten"][:, k])
            body = np.maximum(body, np.where(taken > 0, -bite, -1.0))
        patch.ink(body, COOKIE, np.array(COOKIE) * 0.66)
        for x, y, size in (state["chips"] * radius).tolist():
            chip = shapes.circle(patch.x - x, patch.y - y, size)
            patch.fill(np.maximum(chip, body + 0.5 / 64), CHIP)


def notch(patch: Patch, at: tuple[float, float], radius: float) -> Floats:
    """Distance to a bite round a point of the cookie's frame: a disc with tooth marks."""
    x, y = patch.x - at[0], patch.y - at[1]
    inward = math.atan2(-at[1], -at[0])
    marks = [shapes.circle(x, y, 0.82 * radius)]
    for turn in (-1.05, -0.35, 0.35, 1.05):
        dx, dy = 0.70 * radius * math.cos(inward + turn), 0.70 * radius * math.sin(inward + turn)
        marks.append(shapes.circle(x - dx, y - dy, 0.33 * radius))
    return shapes.union(*marks)


def _draw_monster(patch: Patch, state: dict[str, Floats]) -> None:
    colour, r = state["colour"], float(state["radius"])
    outline, facing = outline_of(colour), float(state["facing"])
    x, y = patch.x * np.float32(facing), patch.y
    for k, dx in enumerate((-0.42, 0.34)):
        foot_y = (1.0 + FOOT) * r - 0.17 * r - over_frames(state["feet"][:, k])
        patch.ink(
            shapes.ellipse(x - dx * r, y - foot_y, 0.32 * r, 0.2 * r), shaded(colour), outline
        )
    for dx, lean in ((-0.46, -0.18), (0.40, 0.16)):
        corners = np.array([(dx - 0.27, -0.70), (dx + 0.27, -0.70), (dx + lean, -1.42)])
        patch.ink(shapes.triangle(x, y, corners * r), IVORY, outline)
    body = shapes.circle(x, y, r)
    angle = over_frames(state["mouth"])
    apex = x - APEX[0] * r
    jaws = np.abs(y - APEX[1] * r) * np.cos(angle) - apex * np.sin(angle)
    jaws = np.where(angle > 0.01, np.maximum(jaws, -apex), 1.0)
    patch.ink(np.maximum(body, -jaws), colour, outline)
    _draw_mouth_line(patch, x, y, r, angle, outline)
    _draw_eye(patch, x, y, r)


def _draw_mouth_line(
    patch: Patch, x: Floats, y: Floats, r: float, angle: Floats, outline: Floats
) -> None:
    """A closed mouth is a smile; a tooth hangs from the upper jaw, open or closed."""
    smile = np.abs(shapes.circle(x - 0.62 * r, y + 0.28 * r, 0.48 * r)) - 0.06 * r
    smile = np.maximum(smile, np.maximum(-0.02 * r - y, x - 0.9 * r))
    patch.fill(np.where(angle > 0.01, 1.0, smile), outline)
    along = np.concatenate([np.cos(angle), -np.sin(angle)], axis=2)
    down = np.concatenate([np.sin(angle), np.cos(angle)], axis=2)
    tooth = [APEX + u * along + v * down for u, v in ((0.62, -0.03), (0.94, -0.03), (0.78, 0.30))]
    patch.fill(shapes.triangle(x, y, np.stack(tooth, axis=2)[:, :, None] * r), IVORY)


def _draw_eye(patch: Patch, x: Floats, y: Floats, r: float) -> None:
    patch.ink(shapes.circle(x - 0.12 * r, y + 0.48 * r, 0.33 * r), IVORY, INK)
    patch.fill(shapes.circle(x - 0.2 * r, y + 0.46 * r, 0.16 * r), INK)
