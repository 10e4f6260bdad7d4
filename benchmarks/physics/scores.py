"""What the clips of a suite add up to: PCS, the physical consistency score, and PMR.

PCS is the mean over families of the share of clips that are measurable and mean what the prompt
says and obey physics; PMR is the share that is measurable. Every clip that was asked for counts:
one that failed, was refused or cannot be read is a clip that did not pass.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from benchmarks.physics.intervals import Floats, Interval, macro_mean, rate_interval

Status = Literal["graded", "failed", "refused"]


@dataclass(frozen=True)
class Outcome:
    """What became of one clip; `errors` are the detectors' continuous errors, by their names."""

    case_id: str
    family: str
    repeat: int
    status: Status
    measurable: bool = False
    semantic: bool = False
    physics: bool = False
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the clip counts for PCS."""
        return self.measurable and self.semantic and self.physics


@dataclass(frozen=True)
class FamilyScore:
    """Rates of one family's clips and the 95 % interval of `pcs`."""

    cases: int
    clips: int
    pcs: float
    interval: Interval
    pmr: float
    semantic: float
    physics: float


@dataclass(frozen=True)
class Score:
    """Rates of all clips; `pcs` and `pmr` are means over families."""

    cases: int
    clips: int
    failed: int
    refused: int
    pcs: float
    interval: Interval
    pmr: float
    families: dict[str, FamilyScore]


def by_case(outcomes: Iterable[tuple[str, float]]) -> Floats:
    """Values `(C, R)` of clips given as pairs of case and value, a row a case, NaN where none."""
    cases: dict[str, list[float]] = {}
    for case_id, value in outcomes:
        cases.setdefault(case_id, []).append(value)
    table = np.full((len(cases), max(map(len, cases.values()))), np.nan)
    for row, values in zip(table, cases.values(), strict=True):
        row[: len(values)] = values
    return table


def by_family(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each family, families in the order of their names."""
    families: dict[str, list[Outcome]] = {}
    for outcome in sorted(outcomes, key=lambda o: (o.family, o.case_id, o.repeat)):
        families.setdefault(outcome.family, []).append(outcome)
    return families


def score(outcomes: Sequence[Outcome]) -> Score:
    """Add up outcomes. Raises `ValueError` if there are none, or two of one case and repeat."""
    if not outcomes:
        raise ValueError("there are no clips to score")
    seen = {(o.case_id, o.repeat) for o in outcomes}
    if len(seen) < len(outcomes):
        raise ValueError(f"{len(outcomes)} clips, but {len(seen)} pairs of case_id and repeat")
    families = by_family(outcomes)
    passes = {name: by_case((o.case_id, o.passed) for o in rows) for name, rows in families.items()}
    return Score(
        cases=sum(map(len, passes.values())),
        clips=len(outcomes),
        failed=sum(o.status == "failed" for o in outcomes),
        refused=sum(o.status == "refused" for o in outcomes),
        pcs=macro_mean(list(passes.values())),
        interval=rate_interval(list(passes.values())),
        pmr=float(np.mean([_share(rows, "measurable") for rows in families.values()])),
        families={name: _family(families[name], passes[name]) for name in families},
    )


def _family(outcomes: Sequence[Outcome], passes: Floats) -> FamilyScore:
    return FamilyScore(
        cases=len(passes),
        clips=len(outcomes),
        pcs=macro_mean([passes]),
        interval=rate_interval([passes]),
        pmr=_share(outcomes, "measurable"),
        semantic=_share(outcomes, "semantic"),
        physics=_share(outcomes, "physics"),
    )


def _share(outcomes: Sequence[Outcome], name: str) -> float:
    return float(np.mean([getattr(outcome, name) for outcome in outcomes]))
