"""Clips of known truth put to the detectors, in two processes."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Protocol

import numpy as np

from benchmarks.physics import detectors
from benchmarks.physics.detectors import Verdict
from benchmarks.physics.validation.nuisances import NUISANCES, ROUND_TRIP, round_trip
from world import captions
from world.corruptions import CORRUPTIONS, NAMES, corrupt
from world.families import FAMILIES
from world.render import render
from world.scene import Scene, sample

CLEAN, CORRUPT, NUISANCE, SECOND_STYLE = "clean", "corrupt", "nuisance", "second style"
DECODED = "corrupt, decoded"
"""Corrupted, and then through the autoencoder and back."""
SIZES = (128, 256)
"""Sizes at which clips are drawn besides the world's own."""


@dataclass(frozen=True)
class Treatment:
    """What is done to a clip of a family: `kind` is one of the constants above, `name` which."""

    family: str
    kind: str
    name: str = ""
    value: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What the detectors said of a clip of a treatment."""

    treatment: Treatment
    seed: int
    measurable: bool
    passed: bool
    errors: dict[str, float]
    figures: dict[str, float | None]


def trial(treatment: Treatment, seed: int) -> Outcome | None:
    """Draw a clip, treat it and judge it; None if the corruption cannot befall that scene."""
    scene = sample(treatment.family, seed)
    expect = captions.parse(scene.caption)
    assert expect is not None, scene.caption
    if treatment.kind in (CORRUPT, DECODED):
        if still_true(scene, treatment.name):
            return None
        try:
            scene = corrupt(scene, treatment.name, treatment.value)
        except ValueError:
            return None
    verdict = _judged(scene, treatment, expect, seed)
    return Outcome(
        treatment, seed, verdict.measurable, verdict.passed, verdict.errors, verdict.figures
    )


def still_true(scene: Scene, corruption: str) -> bool:
    """Whether a corruption leaves a scene that its own caption describes: two balls that roll the
    same way may exchange their colours."""
    ways = [scene.slots.get(name) for name in ("direction", "other_direction")]
    return corruption == "colours_swapped" and scene.family == "two_balls" and ways[0] == ways[1]


def _judged(scene: Scene, treatment: Treatment, expect: dict[str, str], seed: int) -> Verdict:
    style = "outline" if treatment.kind == SECOND_STYLE else "plain"
    size = int(treatment.value) if treatment.name == "drawn at" else 64
    frames, fps = render(scene, size, style), 8.0
    rng = np.random.default_rng(seed)
    if treatment.name == ROUND_TRIP or treatment.kind == DECODED:
        frames, fps = round_trip(frames, rng)
    elif treatment.name in NUISANCES:
        frames, fps = NUISANCES[treatment.name](frames, rng)
    return detectors.judge(detectors.read(frames, treatment.family, expect, fps))


@dataclass(frozen=True)
class Plan:
    """How many clips a family gets of each treatment."""

    clean: int
    corrupt: int
    second_look: int
    nuisance: int
    curve: int
    decoded: int


FULL = Plan(clean=200, corrupt=200, second_look=200, nuisance=25, curve=40, decoded=40)
QUICK = Plan(clean=40, corrupt=5, second_look=12, nuisance=0, curve=0, decoded=1)


def treatments(plan: Plan, severities: dict[str, list[float]]) -> list[tuple[Treatment, int]]:
    """Every treatment of a plan and the number of its clips.

    Those that a gate holds come first, so that a fall is known early.
    """
    right, wrong, rest = [], [], []
    for family in FAMILIES:
        right.append((Treatment(family, CLEAN), plan.clean))
        right.append((Treatment(family, SECOND_STYLE), plan.second_look))
        right.append((Treatment(family, NUISANCE, ROUND_TRIP), plan.second_look))
        rest += [(Treatment(family, NUISANCE, name), plan.nuisance) for name in NUISANCES]
        rest += [(Treatment(family, NUISANCE, "drawn at", size), plan.nuisance) for size in SIZES]
        for name in NAMES[family]:
            nominal = CORRUPTIONS[name].nominal
            wrong.append((Treatment(family, CORRUPT, name, nominal), plan.corrupt))
            rest.append((Treatment(family, DECODED, name, nominal), plan.decoded))
            curve = [value for value in severities.get(name, []) if value != nominal]
            rest += [(Treatment(family, CORRUPT, name, value), plan.curve) for value in curve]
    return [(treatment, count) for treatment, count in right + wrong + rest if count]


class Known(Protocol):
    """Where the outcomes of treatments are kept, such as a `Journal`."""

    def known(self, item: tuple[Treatment, int]) -> list[Outcome] | None:
        """Those of a treatment and the number of its clips, if they are there."""

    def add(self, item: tuple[Treatment, int], outcomes: Sequence[Outcome]) -> None:
        """Keep those of a treatment."""


def run(
    work: Sequence[tuple[Treatment, int]], first_seed: int, processes: int, journal: Known
) -> Iterator[Outcome]:
    """The outcomes of all clips, in the order of the work.

    A treatment of `n` clips has the seeds from `first_seed` on; a corruption that cannot befall a
    scene, as crossed legs a cat with two, goes on to the next.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes share the cores, not threads
    left = [item for item in work if journal.known(item) is None]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        fresh = pool.map(_batch, [(item, first_seed) for item in left], chunksize=4)
        for item in work:
            outcomes = journal.known(item)
            if outcomes is None:
                outcomes = next(fresh)
                journal.add(item, outcomes)
            yield from outcomes


def _batch(task: tuple[tuple[Treatment, int], int]) -> list[Outcome]:
    (treatment, count), seed = task
    outcomes: list[Outcome] = []
    last = seed + 4 * count
    while len(outcomes) < count and seed < last:
        if outcome := trial(treatment, seed):
            outcomes.append(outcome)
        seed += 1
    return outcomes
