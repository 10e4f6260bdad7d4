"""Water that is not conserved, flows up or stands aslant, and ice that grows."""

import math

import numpy as np

from world.corruptions.corruption import Corruption, length, sometime, whole, with_state
from world.families.melt import cube_area
from world.scene import Scene


def volume(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """There is `value` per cent more water in the filled cup, or the puddle, than there may be."""
    factor, state = 1.0 + value / 100.0, scene.state
    if scene.family == "melt":
        return with_state(
            scene, puddle_area=factor * state["puddle_area"], puddle=factor**0.5 * state["puddle"]
        )
    held = factor * state["destination_volume"]
    level = state["destination"][1] - held / state["destination_size"][0]
    arrived = state["stream_bottom"] >= state["destination_level"] - 1e-9
    bottom = np.where(arrived, level, state["stream_bottom"])
    top = np.minimum(state["stream_top"], bottom)
    return with_state(
        scene,
        destination_volume=held,
        destination_level=level,
        stream_bottom=bottom,
        stream_top=top,
        stream_volume=(bottom - top) * state["stream_width"],
    )


def stream_upward(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The stream is turned upside down: it grows and ends from below, and moves up."""
    state = scene.state
    both = state["lip"][-1, 1] + state["destination_level"]
    return with_state(
        scene,
        stream_speed=-state["stream_speed"],
        stream_top=both - state["stream_bottom"],
        stream_bottom=both - state["stream_top"],
    )


def surface_tilted(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The water in the filled cup stands aslant by `value` degrees, by less while it is shallow."""
    depth = scene.state["destination"][1] - scene.state["destination_level"]
    steepest = 1.8 * depth / scene.state["destination_size"][0]
    slope = np.minimum(math.tan(math.radians(value)), steepest)
    return with_state(scene, destination_slope=rng.choice((-1.0, 1.0)) * slope)


def ice_grows(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """From some frame on the ice grows, to `value` per cent more than there was in that frame."""
    state, start = scene.state, sometime(scene, rng)
    t = np.arange(length(scene))
    part = np.clip((t - start) / (length(scene) - 1 - start), 0.0, 1.0)
    grown = 1.0 + (math.sqrt(1.0 + value / 100.0) - 1.0) * part
    half, corner = (
        np.where(t < start, state[name], state[name][start] * grown)
        for name in ("half_side", "corner")
    )
    return with_state(scene, half_side=half, corner=corner, ice_area=cube_area(half, corner))


CORRUPTIONS = {
    "volume": Corruption(volume, "per cent", 25, -50, 50, ("pour", "melt")),
    "stream_upward": whole(stream_upward, "pour"),
    "surface_tilted": Corruption(surface_tilted, "degrees", 15, 2, 40, ("pour",)),
    "ice_grows": Corruption(ice_grows, "per cent", 25, 5, 50, ("melt",)),
}
