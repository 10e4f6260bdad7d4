"""From outcomes to rates, curves and the matrix of what fires for what."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors import MOST
from benchmarks.physics.validation.trials import CLEAN, CORRUPT, DECODED, Outcome, Treatment

Floats = NDArray[np.float64]
UNMEASURABLE = "unmeasurable"
"""The target of a corruption that leaves nothing to judge."""


@dataclass(frozen=True)
class Breaks:
    """Detectors that are to fire for a corruption by family, and others that rightly may.

    `targets` has the name `else` for families that it does not list.
    """

    targets: Mapping[str, frozenset[str]]
    entailed: frozenset[str]

    def target(self, family: str) -> frozenset[str]:
        """Those of a family."""
        return self.targets[family] if family in self.targets else self.targets["else"]


def area_under_curve(clean: Sequence[float], corrupt: Sequence[float]) -> float:
    """The chance that a corrupted clip has the larger error; ties count half (Mann-Whitney)."""
    a, b = np.asarray(clean)[:, None], np.asarray(corrupt)[None]
    return float((a < b).mean() + 0.5 * (a == b).mean())


def error(outcome: Outcome, names: Collection[str]) -> float:
    """The largest error of some detectors; none fires for a clip that cannot be measured, unless
    that is what is to be found."""
    if not outcome.measurable:
        return MOST if UNMEASURABLE in names else 0.0
    return max((outcome.errors.get(name, 0.0) for name in names), default=0.0)


def fired(outcome: Outcome) -> set[str]:
    """The detectors that fail a clip."""
    return {name for name, value in outcome.errors.items() if value > 1.0}


def by_treatment(outcomes: Iterable[Outcome]) -> dict[Treatment, list[Outcome]]:
    """Outcomes under their treatments."""
    groups: dict[Treatment, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.treatment].append(outcome)
    return dict(groups)


def corruption_rows(
    groups: dict[Treatment, list[Outcome]], breaks: dict[str, Breaks]
) -> list[dict[str, Any]]:
    """Of each family and value of a corruption: recall, area under the curve, and who fired."""
    rows = []
    for treatment, outcomes in groups.items():
        if treatment.kind != CORRUPT:
            continue
        law = breaks[treatment.name]
        clean = groups[Treatment(treatment.family, CLEAN)]
        target = law.target(treatment.family)
        errors = [error(outcome, target) for outcome in outcomes]
        allowed = target | law.entailed
        counts: dict[str, int] = defaultdict(int)
        for outcome in outcomes:
            for name in fired(outcome):
                counts[name] += 1
        rows.append(
            {
                "family": treatment.family,
                "corruption": treatment.name,
                "value": treatment.value,
                "clips": len(outcomes),
                "caught": sum(value > 1.0 for value in errors),
                "auroc": area_under_curve([error(c, target) for c in clean], errors),
                "wrongly": max((counts[n] for n in counts if n not in allowed), default=0),
                "fired": dict(sorted(counts.items())),
                "off_target": {name: n for name, n in counts.items() if name not in allowed},
            }
        )
    return rows


def decoded_rows(
    groups: dict[Treatment, list[Outcome]], breaks: dict[str, Breaks]
) -> list[dict[str, Any]]:
    """Of each family and corruption: how many clips are caught, and by their targets, after an
    encode-decode of the autoencoder."""
    rows = []
    for treatment, outcomes in groups.items():
        if treatment.kind == DECODED:
            target = breaks[treatment.name].target(treatment.family)
            rows.append(
                {
                    "family": treatment.family,
                    "corruption": treatment.name,
                    "clips": len(outcomes),
                    "caught": sum(error(outcome, target) > 1.0 for outcome in outcomes),
                    "failed": sum(not outcome.passed for outcome in outcomes),
                }
            )
    return rows


def detector_rows(
    groups: dict[Treatment, list[Outcome]], breaks: dict[str, Breaks], nominal: dict[str, float]
) -> list[dict[str, Any]]:
    """Of each detector: how it does on clean clips and on what it is to fire for, all together."""
    clean = [o for t, outcomes in groups.items() if t.kind == CLEAN for o in outcomes]
    rows = []
    for name in sorted({name for outcome in clean for name in outcome.errors}):
        own = [
            outcome
            for treatment, outcomes in groups.items()
            if treatment.kind == CORRUPT and treatment.value == nominal[treatment.name]
            for outcome in outcomes
            if name in breaks[treatment.name].target(treatment.family)
            and (name in outcome.errors or not outcome.measurable)
        ]
        quiet = [outcome for outcome in clean if name in outcome.errors]
        false = sum(name in fired(outcome) for outcome in quiet)
        true = sum(name in fired(outcome) for outcome in own)
        rows.append(
            {
                "detector": name,
                "clean": len(quiet),
                "fired_clean": false,
                "own": len(own),
                "fired_own": true,
                "precision": true / (true + false) if true + false else None,
                "recall_alone": true / len(own) if own else None,
                "auroc_alone": area_under_curve(
                    [error(o, [name]) for o in quiet], [error(o, [name]) for o in own]
                )
                if own
                else None,
            }
        )
    return rows


def smallest_caught(rows: Sequence[dict[str, Any]], share: float = 0.95) -> dict[str, float | None]:
    """By `family/corruption`, the weakest value from which on recall is `share` or more."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        curves[f"{row['family']}/{row['corruption']}"].append(
            (row["value"], row["caught"] / max(row["clips"], 1))
        )
    return {name: _threshold(curve, share) for name, curve in sorted(curves.items())}


def _threshold(curve: list[tuple[float, float]], share: float) -> float | None:
    caught = [value for value, recall in curve if recall >= share]
    return min(caught, key=abs) if caught else None
