"""Rows that any score must be read beside: clips whose grades are known in advance.

Ground truth must pass; a training clip with the nearest caption shows what copying earns, a frozen
frame and a constant velocity what no physics earns, a random clip what chance does.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import world
from benchmarks.physics.cases import Case, Row, case_scene, read_rows, write_rows
from benchmarks.physics.l1.motion import flows, warp
from model.video import write_mp4

Pixels = NDArray[np.uint8]

TRAINING_SEEDS = 400
"""Scenes of each family that the nearest caption is looked for in."""
GIVEN = 3
"""Frames that constant velocity is measured on, as in PhyWorld."""
ENLARGE = 4
"""Controls are enlarged, Lanczos, and go through H.264, like the clips of a small model."""


def scene_of(case: Case) -> world.Scene | None:
    """The scene that a case of the world suite was drawn from; None for other cases."""
    family, _, index = case.case_id.rpartition("-")
    if family not in world.FAMILIES or not index.isdecimal():
        return None
    scene = case_scene(family, int(index))
    return scene if scene.caption == case.prompt else None


def ground_truth(scene: world.Scene) -> Pixels:
    """The scene itself."""
    return world.render(scene)


def frozen_frame(scene: world.Scene) -> Pixels:
    """Its first frame, all the time."""
    frames = world.render(scene)
    return np.repeat(frames[:1], len(frames), axis=0)


def constant_velocity(scene: world.Scene) -> Pixels:
    """Its first three frames; from there on every pixel keeps its last velocity."""
    frames = world.render(scene)
    big = np.stack([cv2.resize(f, None, fx=4, fy=4) for f in frames[:GIVEN]])
    grey = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in big])
    velocity = flows(grey[-2:]).backward[0]
    for t in range(GIVEN, len(frames)):
        where = (t - GIVEN + 1) * warp_back(velocity, t - GIVEN + 1)
        channels = [warp(big[-1][..., c], where) for c in range(3)]
        moved = np.clip(np.stack(channels, -1), 0, 255)
        frames[t] = cv2.resize(moved, frames.shape[2:0:-1], interpolation=cv2.INTER_AREA)
    return frames


def warp_back(velocity: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
    """The velocity that arrives at each pixel after so many steps, found by fixed point."""
    arrived = velocity
    for _ in range(4):
        back = steps * arrived
        arrived = np.stack([warp(velocity[..., axis], back) for axis in (0, 1)], -1)
    return arrived


def nearest_training_clip(scene: world.Scene) -> Pixels:
    """The training clip with the nearest caption; of equals, the first seed's."""
    words = scene.caption.split()

    def distance(caption: str) -> int:
        return edit_distance(words, caption.split())

    return world.render(world.sample(*min(_training()[::-1], key=lambda x: distance(x[0]))[1]))


@cache
def _training() -> tuple[tuple[str, tuple[str, int]], ...]:
    """Captions of training scenes, each once, with family and seed, the first seed last."""
    first: dict[str, tuple[str, int]] = {}
    for seed in range(TRAINING_SEEDS):
        for family in world.FAMILIES:
            first.setdefault(world.sample(family, seed).caption, (family, seed))
    return tuple(reversed(first.items()))


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Words to insert, drop or replace to make one sentence of the other."""
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def random_clip(scene: world.Scene) -> Pixels:
    """Some training clip of some family."""
    number = int.from_bytes(hashlib.sha256(scene.caption.encode()).digest()[:4])
    families = list(world.FAMILIES)
    return world.render(world.sample(families[number % len(families)], number // 100))


CONTROLS: dict[str, Callable[[world.Scene], Pixels]] = {
    "ground truth": ground_truth,
    "nearest training clip": nearest_training_clip,
    "constant velocity": constant_velocity,
    "frozen first frame": frozen_frame,
    "random training clip": random_clip,
}


def write_controls(cases: Sequence[Case], folder: Path) -> Iterator[tuple[str, Path]]:
    """Write each control's clips, once; gives its name and its folder.

    Cases that are not the world's have none.
    """
    scenes = [(case, scene) for case in cases if (scene := scene_of(case))]
    for name, make in CONTROLS.items() if scenes else ():
        place = folder / name.replace(" ", "-")
        listing = place / "prompts.jsonl"
        rows: list[Row] = [
            {"prompt": case.prompt, "case_id": case.case_id, "repeat": 0, "seed": scene.seed}
            | {"family": case.family, "file": f"{case.case_id}.mp4"}
            for case, scene in scenes
        ]
        if not (listing.is_file() and read_rows(listing) == rows):
            place.mkdir(parents=True, exist_ok=True)
            for row, (_, scene) in zip(rows, scenes, strict=True):
                write_mp4(place / row["file"], make(scene), world.FPS, scale=ENLARGE)
            write_rows(listing, rows)
        yield name, place
