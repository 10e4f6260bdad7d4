"""Water is poured from one glass cup into another: no drop is lost.

Exact state, areas in parts of the frame's area, times in frames:
`source_volume + stream_volume + destination_volume = volume` in every frame. The source tips about
its lip; from `starts` to `stops` it holds what a cup so tilted can hold, and that falls by `flow`
a frame. The stream is a column `stream_width` wide that moves down by `stream_speed` from
`stream_top` to `stream_bottom` `(T,)`; the two are equal when there is none. Surfaces are level:
`source_level` and `destination_level` `(T,)` are their heights y, and `destination_slope` is 0.
`lip` `(T, 2)` is the inner
corner over which the source pours, `tilt` `(T,)` its angle, radians, towards the other cup.
"""

import numpy as np

from world import shapes
from world.painter import Canvas, Patch, over_frames, shadow
from world.palette import GLASS, INK, IVORY, WATER, Floats
from world.timing import smoothstep

WALL = 1.7 / 64
FLECKS = 9.0 / 64  # from one light fleck of the stream to the next


def sample(
    rng: np.random.Generator, slots: dict[str, str], floor: float, frames: int
) -> dict[str, Floats]:
    """Two cups, the tilt of one, and how much water is where in each frame."""
    toward = 1.0 if slots["direction"] == "left" else -1.0
    width, height = rng.uniform(13.0, 15.0) / 64, rng.uniform(15.0, 17.0) / 64
    other_width, other_height = rng.uniform(15.0, 17.5) / 64, rng.uniform(14.0, 16.0) / 64
    volume = rng.uniform(0.58, 0.68) * width * height
    starts, stops = rng.uniform(3.6, 4.8), rng.uniform(11.0, 12.0)
    left = volume * rng.uniform(0.08, 0.2)
    flow = (volume - left) / (stops - starts)
    t = np.arange(frames, dtype=np.float64)
    source = volume - flow * np.clip(t - starts, 0.0, stops - starts)
    middle = 0.5 + toward * rng.uniform(8.0, 11.0) / 64
    state = {
        "volume": np.array(volume),
        "flow": np.array(flow),
        "starts": np.array(starts),
        "stops": np.array(stops),
        "toward": np.array(toward),
        "source_size": np.array([width, height]),
        "destination_size": np.array([other_width, other_height]),
        "destination": np.array([middle, floor - WALL]),
        "source_volume": source,
    }
    state |= _pose(rng, state, frames)
    state["stream_width"] = np.array(flow / (rng.uniform(6.2, 7.2) / 64))
    state["glass"] = np.clip(GLASS + rng.uniform(-0.03, 0.03, 3), 0.0, 1.0)
    state["source_level"] = source_level(state)
    return state | fall(state, float(state["lip"][-1, 1]))


def _pose(rng: np.random.Generator, state: dict[str, Floats], frames: int) -> dict[str, Floats]:
    """The way of the source's lip `(T, 2)` from the floor up to the other cup, and its tilt `(T,)`.

    The cup rises faster than it comes near and leans over as it does, so that the two never touch.
    """
    (width, height), (other_width, other_height) = state["source_size"], state["destination_size"]
    (middle, bottom), toward = state["destination"], float(state["toward"])
    starts, stops = float(state["starts"]), float(state["stops"])
    t = np.arange(frames, dtype=np.float64)
    over = middle - toward * (0.5 * other_width - rng.uniform(3.0, 3.8) / 64)
    high = bottom - other_height - rng.uniform(11.0, 12.5) / 64
    near = smoothstep(t / starts)
    back = smoothstep((t - stops) / 3.5) * rng.uniform(0.35, 0.45)
    home = middle - toward * (0.5 * other_width + rng.uniform(8.0, 10.0) / 64)
    low = bottom - height
    x, y = home + (over - home) * near, low + (high - low) * smoothstep(1.4 * t / starts)
    pouring = np.arctan(steepness(state["source_volume"], float(width), float(height)))
    return {
        "lip": np.stack([x, y], axis=1),
        "tilt": pouring * np.where(t < starts, near, 1.0 - back),
    }


def steepness(volume: Floats, width: float, height: float) -> Floats:
    """The tangent of the tilt at which a cup of an inner size holds a volume `(T,)` and no more."""
    slight = 2.0 * (width * height - volume) / width**2
    return np.where(volume > 0.5 * width * height, slight, 0.5 * height**2 / volume)


def source_level(state: dict[str, Floats]) -> Floats:
    """The height y `(T,)` of the surface in the tilted cup.

    The surface cuts either both walls, and then the cup's axis at the mean depth, or the bottom
    and the wall below the lip.
    """
    width, height = state["source_size"]
    volume, tilt, lip = state["source_volume"], state["tilt"], state["lip"][:, 1]
    slope = np.tan(tilt)
    corner = np.sqrt(2.0 * volume * np.maximum(slope, 1e-9))
    depth = np.where(volume < 0.5 * width**2 * slope, corner, volume / width + 0.5 * width * slope)
    level: Floats = lip + (height - depth) * np.cos(tilt)
    return level


def fall(state: dict[str, Floats], lip: float) -> dict[str, Floats]:
    """The stream from the lip, a height y, down to the water that it has become."""
    t = np.arange(len(state["source_volume"]), dtype=np.float64)
    thick, bottom = float(state["stream_width"]), float(state["destination"][1])
    wide = float(state["destination_size"][0])
    speed = float(state["flow"]) / thick
    gone = float(state["volume"]) - state["source_volume"]
    top = lip + speed * np.maximum(t - float(state["stops"]), 0.0)
    # The surface meets the stream's end: what has arrived fills the cup, the rest hangs above it.
    arrived = (gone - thick * (bottom - top)) / (1.0 - thick / wide)
    landed = arrived > 0.0
    arrived = np.clip(arrived, 0.0, gone)
    surface = bottom - arrived / wide
    top = np.minimum(top, surface)
    end = np.where(landed, surface, lip + gone / thick)
    return {
        "stream_x": np.array(float(state["lip"][-1, 0]) + 0.5 * float(state["toward"]) * thick),
        "stream_speed": np.array(speed),
        "stream_top": top,
        "stream_bottom": np.where(gone > 0.0, end, top),
        "stream_volume": gone - arrived,
        "destination_volume": arrived,
        "destination_level": surface,
        "destination_slope": np.zeros(len(t)),
    }


def draw(canvas: Canvas, state: dict[str, Floats]) -> None:
    """The cup that is filled, the cup that pours, and the stream in front of both."""
    width, height = state["source_size"].tolist()
    other_width, other_height = state["destination_size"].tolist()
    x, bottom = state["destination"].tolist()
    toward = np.float32(state["toward"])
    shadow(canvas, np.array([x, bottom + WALL]), 0.62 * other_width, 0.3)
    near = np.clip(1.0 - (bottom - height - state["lip"][:, 1]) / 0.3, 0.0, 1.0)
    under = state["lip"][:, 0] - toward * 0.5 * width
    on_floor = np.stack([under, np.full(canvas.frames, bottom + WALL)], axis=1)
    shadow(canvas, on_floor, 0.62 * width, 0.3 * near)
    reach = 1.2 * max(other_width, other_height)
    with canvas.patch(np.array([x, bottom - other_height]), (reach, reach)) as patch:
        level = over_frames(state["destination_level"] - bottom + other_height)
        level = level + over_frames(state["destination_slope"]) * patch.x
        size = (other_width, other_height)
        _draw_cup(patch, -toward * patch.x, patch.y, size, level, state["glass"])
    reach = 1.1 * (width + height)
    with canvas.patch(state["lip"], (reach, reach)) as patch:
        level = over_frames(state["source_level"] - state["lip"][:, 1])
        turn = over_frames(state["tilt"])
        # In the cup's own frame the lip is the right end of the rim, wherever it leans.
        across = np.cos(turn) * patch.x * toward + np.sin(turn) * patch.y + 0.5 * width
        along = np.cos(turn) * patch.y - np.sin(turn) * patch.x * toward
        _draw_cup(patch, across, along, (width, height), level, state["glass"])
    _draw_stream(canvas, state)


def _draw_cup(
    patch: Patch,
    across: Floats,
    along: Floats,
    size: tuple[float, float],
    level: Floats,
    glass: Floats,
) -> None:
    """A cup whose rim's middle is the origin: `across` runs along the rim, `along` down the axis.

    The handle and the eyes are on the side of negative `across`.
    """
    half, height = 0.5 * size[0], size[1]
    inside = shapes.rectangle(across, along - 0.5 * height, half, 0.5 * height, 0.0)
    patch.blend(0.3 * patch.coverage(inside), glass)
    patch.fill(np.maximum(inside, level - patch.y), WATER)
    middle = 0.5 * (height + WALL)
    hull = shapes.rectangle(across, along - middle, half + WALL, middle, 2.2 * WALL)
    hull = np.maximum(hull, -along)
    ear = np.abs(shapes.circle(across + half + WALL, along - 0.45 * height, 0.24 * height))
    handle = np.maximum(ear - 0.5 * WALL, across + half + 0.5 * WALL)
    opened = np.maximum(np.abs(across) - half, along - height)
    walls = np.maximum(shapes.union(hull, handle), -opened)
    patch.ink(walls, glass, 0.45 * glass)
    for out in (0.0, 0.36):
        x, y = across + half + 0.5 * WALL - out * 2.0 * half, along + 1.2 * WALL
        patch.ink(shapes.circle(x, y, 1.6 * WALL), IVORY, INK)
        patch.fill(shapes.circle(x - 0.5 * WALL, y - 0.2 * WALL, 0.75 * WALL), INK)


def _draw_stream(canvas: Canvas, state: dict[str, Floats]) -> None:
    """A column of water with lighter flecks that move down with it."""
    top, end, half = state["stream_top"], state["stream_bottom"], 0.5 * float(state["stream_width"])
    middle = np.stack([np.full(canvas.frames, state["stream_x"]), 0.5 * (top + end)], axis=1)
    reach = 0.5 * float((end - top).max()) + half
    with canvas.patch(middle, (2.0 * half, reach)) as patch:
        length = over_frames(0.5 * (end - top))
        column = shapes.rectangle(patch.x, patch.y, half, length, 0.0)
        patch.fill(np.where(length > 0.0, column, 1.0), WATER)
        travelled = over_frames(middle[:, 1] - np.arange(canvas.frames) * state["stream_speed"])
        fleck = np.abs((patch.y + travelled) % FLECKS - 0.5 * FLECKS) - 0.15 * FLECKS
        fleck = np.maximum(np.maximum(fleck, column + 0.3 * half), np.abs(patch.x) - 0.3 * half)
        patch.blend(0.28 * patch.coverage(fleck) * (length > 0.0), GLASS)
