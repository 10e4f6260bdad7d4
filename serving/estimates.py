"""How long jobs take: learned from those that were finished, scaled where the shape is new.

Machines do not keep their speed: they throttle, have other work, or have just been started. So what
is usual of a shape is told in the pace of the latest jobs, of whatever shape they are.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf, log
from statistics import median
from typing import Any, NamedTuple

PER_SHAPE = 9
"""Jobs of one shape that are learned from, the latest ones."""
PACED_BY = 3
"""Latest jobs that tell the pace: one odd job is no pace, and a change shows after two."""


class Shape(NamedTuple):
    """What a job costs depends on: the render's size in pixels, the file's in renders, ..."""

    width: int
    height: int
    scale: int
    num_frames: int
    steps: int

    @classmethod
    def of(cls, resolved: Mapping[str, Any]) -> "Shape":
        """The shape of a resolved request; `strength` is the share of the steps that is run."""
        steps = max(1, int(resolved["num_inference_steps"] * (resolved.get("strength") or 1.0)))
        names = ("width", "height", "scale", "num_frames")
        return cls(**{name: resolved[name] for name in names}, steps=steps)

    @property
    def key(self) -> str:
        """The shape as one word, by which the table counts: width x height x scale, ..."""
        return "x".join(map(str, self))

    @classmethod
    def parse(cls, key: str) -> "Shape":
        """The inverse of `key`."""
        return cls(*map(int, key.split("x")))

    @property
    def work(self) -> int:
        """What denoising costs, up to a factor: tokens x steps."""
        return self.width * self.height * self.num_frames * self.steps

    @property
    def pixels(self) -> int:
        """What decoding and encoding cost, up to a factor: the file's pixels."""
        return self.width * self.height * self.scale**2 * self.num_frames


class Stages(NamedTuple):
    """Seconds that a job spends before, in and after its denoising loop."""

    before: float
    denoise: float
    after: float

    @classmethod
    def spent(cls, row: Mapping[str, Any]) -> "Stages":
        """How a completed job spent its time, by its row."""
        timings = row["timings"] or {}
        before, denoise = timings.get("text", 0.0), timings.get("denoise", 0.0)
        total = row["completed_at"] - row["started_at"]
        return cls(before, denoise, max(total - before - denoise, 0.0))

    def scaled(self, source: Shape, target: Shape) -> "Stages":
        """The stages of a job of shape `target`, these being one of shape `source`'s."""
        denoise = self.denoise * target.work / source.work
        return Stages(self.before, denoise, self.after * target.pixels / source.pixels)

    def remaining(self, step: int, steps: int, since: float) -> float:
        """Seconds left after `step` of `steps`, `since` seconds after the latest of them.

        A step that takes longer than it should is taken to end now.
        """
        per_step = self.denoise / steps
        left = (0.0 if step else self.before) + (steps - step) * per_step + self.after
        least = (steps - step - 1) * per_step + self.after if step < steps else 0.0
        return max(left - since, least)


def learn(finished: Iterable[Mapping[str, Any]]) -> dict[Shape, Stages]:
    """The median stages of each shape's latest jobs, in the pace of the latest of all.

    finished: rows of one model's completed jobs, latest first.
    """
    spent: dict[Shape, list[Stages]] = {}
    latest: list[tuple[Shape, Stages]] = []
    for row in finished:
        shape, stages = Shape.parse(row["shape"]), Stages.spent(row)
        latest.append((shape, stages))
        if len(jobs := spent.setdefault(shape, [])) < PER_SHAPE:
            jobs.append(stages)
    usual = {
        shape: Stages(*(median(stage) for stage in zip(*jobs, strict=True)))
        for shape, jobs in spent.items()
    }
    paces = [
        sum(stages) / seconds
        for shape, stages in latest
        # The only job of its shape is as usual whatever the pace.
        if len(spent[shape]) > 1 and (seconds := sum(usual[shape])) > 0
    ]
    pace = median(paces[:PACED_BY]) if paces else 1.0
    return {shape: Stages(*(pace * stage for stage in stages)) for shape, stages in usual.items()}


def expect(shape: Shape, learned: Mapping[Shape, Stages]) -> Stages | None:
    """The stages of a job of that shape, scaled from the nearest one where it is new."""
    if not learned:
        return None
    nearest = min(learned, key=lambda known: _distance(shape, known))
    return learned[nearest].scaled(nearest, shape)


def _distance(one: Shape, other: Shape) -> float:
    return abs(log(one.work / other.work)) + abs(log(one.pixels / other.pixels))


def wait(work: float, busy: Sequence[float]) -> float:
    """Seconds until `work` seconds of jobs have been begun by workers that take the next at once.

    busy: seconds for which each worker is taken, at least one. Work is treated as a fluid, exact
    for one worker.
    """
    for count, (level, above) in enumerate(pairwise([*sorted(busy), inf]), start=1):
        if work <= (above - level) * count:
            return level + work / count
        work -= (above - level) * count
    raise AssertionError("the last level is infinite")
