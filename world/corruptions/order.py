"""Things in each other's place or colour, and events out of order."""

import numpy as np

from world.corruptions.corruption import length, whole, with_state
from world.scene import Scene


def swapped(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The square and the circle are each where the other should be."""
    square, circle = scene.state["square"].copy(), scene.state["circle"].copy()
    square[:, 0], circle[:, 0] = scene.state["circle"][:, 0], scene.state["square"][:, 0]
    return with_state(scene, square=square, circle=circle)


def colours_swapped(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The two actors have each other's colour."""
    state = scene.state
    return with_state(scene, colour=state["other_colour"], other_colour=state["colour"])


def events_swapped(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """First the square moves as far as it should, then the ball falls."""
    begin = float(scene.state["release"])
    rest = length(scene) - 1 - float(scene.state["start"])
    return _at(scene, begin, begin + rest + 1.0)


def simultaneous(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The square moves as soon as the ball falls."""
    begin = float(scene.state["release"])
    return _at(scene, begin, begin)


def event_missing(scene: Scene, value: float, rng: np.random.Generator) -> Scene:
    """The ball never falls, or the square never moves."""
    never = float(length(scene))
    start, release = float(scene.state["start"]), float(scene.state["release"])
    return _at(scene, start, never) if rng.random() < 0.5 else _at(scene, never, release)


def _at(scene: Scene, start: float, release: float) -> Scene:
    """The scene with the events at other times; the square stops where it did."""
    state = scene.state
    t = np.arange(length(scene), dtype=np.float64)
    ball, square = state["ball"].copy(), state["square"].copy()
    travel = state["velocity"] * (length(scene) - 1 - state["start"])
    moved = state["velocity"] * np.maximum(t - start, 0.0)
    square[:, 0] = square[0, 0] + np.sign(travel) * np.minimum(np.abs(moved), np.abs(travel))
    height = 0.5 * state["gravity"] * np.maximum(t - release, 0.0) ** 2
    ball[:, 1] = np.minimum(ball[0, 1] + height, state["floor"] - state["radius"])
    landing = state["landing"] - state["release"] + release
    times = {"start": start, "release": release, "landing": float(landing)}
    return with_state(
        scene, ball=ball, square=square, **{name: np.array(time) for name, time in times.items()}
    )


CORRUPTIONS = {
    "swapped": whole(swapped, "beside"),
    "colours_swapped": whole(
        colours_swapped, "beside", "hit", "order", "two_balls", "cat_and_ball"
    ),
    "events_swapped": whole(events_swapped, "order"),
    "simultaneous": whole(simultaneous, "order"),
    "event_missing": whole(event_missing, "order"),
}
