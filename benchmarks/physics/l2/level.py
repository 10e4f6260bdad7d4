"""L2 as a whole: judges, their planted controls, and what they say of a model's clips."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.physics.cases import Clip
from benchmarks.physics.grading import Graded, grade_all
from benchmarks.physics.intervals import Interval
from benchmarks.physics.l2.calibration import (
    Ability,
    ability,
    corrected,
    corrected_interval,
    kappa,
)
from benchmarks.physics.l2.judge import Judge
from benchmarks.physics.l2.planted import try_judge
from benchmarks.physics.scores import by_case, by_family

CONTROLS_PER_FAMILY = 10
"""Right clips, and as many wrong ones, of each family; 240 of 500 clips in the full suite."""
CONTROL_SHARE = 0.2
"""Of all clips that a judge sees, at least so many are controls."""

Fields = dict[str, Any]


class Judged(NamedTuple):
    """Clips as all judges together see them, the judges' records, and the families to score."""

    graded: list[Graded]
    judges: list[Fields]
    able: frozenset[str]


def judge_clips(
    judges: Sequence[Judge],
    clips: Sequence[Clip],
    per_family: int,
    cache: Path,
    tell: Callable[[str], None],
) -> Judged:
    """Calibrate every judge, then grade; a clip passes if every judge passes it.

    Raises `ValueError` if fewer than a fifth of all clips are controls.
    """
    for judge in judges:
        judge.check([clip.case for clip in clips])
    said: list[list[Graded]] = []
    records: list[Fields] = []
    for judge in judges:
        known = calibrate(judge, per_family, clips, tell)
        spent = judge.endpoint.calls
        said.append(grade_all(clips, judge, cache, tell))
        records.append(_record(judge, known, said[-1], said[0], spent))
    able = [{f["name"] for f in record["families"] if f["admitted"]} for record in records]
    return Judged(_together(said), records, frozenset(set.intersection(*able)))


def calibrate(
    judge: Judge, per_family: int, clips: Sequence[Clip], tell: Callable[[str], None]
) -> dict[str, Ability]:
    """A judge's record on planted controls, by family."""
    trials: dict[str, list[tuple[bool, bool, float]]] = {}
    tried = try_judge(judge, clips, per_family)
    if len(tried) < CONTROL_SHARE * (len(tried) + len(clips)):
        raise ValueError(
            f"there are {len(tried)} controls for {len(clips)} clips; a fifth of all is needed: "
            f"raise --planted from {per_family}"
        )
    for planted, grade in tried:
        passed = grade.measurable and grade.semantic and grade.physics
        trials.setdefault(planted.family, []).append(
            (planted.right, passed, grade.details["score"])
        )
    known = {family: ability(rows) for family, rows in trials.items()}
    able = sorted(name for name, record in known.items() if record.admitted)
    tell(f"{judge.endpoint.model}: able in {len(able)} of {len(known)}: {', '.join(able) or '-'}")
    return known


def _record(
    judge: Judge,
    known: dict[str, Ability],
    graded: Sequence[Graded],
    first: Sequence[Graded],
    spent: int,
) -> Fields:
    rows = by_family([item.outcome for item in graded])
    return {
        "model": judge.endpoint.model,
        "prompt_digest": judge.digest,
        "calls": judge.endpoint.calls,
        "control_calls": spent,
        "tokens": judge.endpoint.tokens,
        "kappa": None if graded is first else kappa(_passes(first), _passes(graded)),
        "families": [
            _family(name, known.get(name), by_case((o.case_id, o.passed) for o in outcomes))
            for name, outcomes in rows.items()
        ],
    }


def _family(name: str, known: Ability | None, passes: Any) -> Fields:
    observed = float(np.nanmean(passes))
    fields: Fields = {"name": name, "observed": observed, "admitted": False}
    fields |= dict.fromkeys(("sensitivity", "specificity", "auroc", "corrected", "interval"))
    if known is None:
        return fields
    fields |= {"sensitivity": known.sensitivity, "specificity": known.specificity}
    fields |= {"auroc": known.auroc, "admitted": known.admitted}
    if known.admitted:
        interval: Interval = corrected_interval(passes, known)
        rate = corrected(observed, known.sensitivity, known.specificity)
        fields |= {"corrected": rate, "interval": interval}
    return fields


def _passes(graded: Sequence[Graded]) -> dict[object, bool]:
    return {(g.clip.case.case_id, g.clip.repeat): g.outcome.passed for g in graded}


def _together(said: Sequence[Sequence[Graded]]) -> list[Graded]:
    """Each clip with what all judges grant it, and what each of them answered."""
    merged = []
    for views in zip(*said, strict=True):
        flags = {
            name: all(getattr(view.outcome, name) for view in views)
            for name in ("measurable", "semantic", "physics")
        }
        details = views[0].details if len(views) == 1 else {"judges": [v.details for v in views]}
        merged.append(
            replace(views[0], outcome=replace(views[0].outcome, **flags), details=details)
        )
    return merged
