"""The bounds that detectors must keep before they may judge."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.physics.intervals import wilson
from benchmarks.physics.validation.trials import CLEAN, SECOND_STYLE, Outcome

CLEAN_PASS, UNMEASURABLE, RECALL, AUROC, OFF_TARGET, OTHER_LOOK = (
    0.99,
    0.01,
    0.99,
    0.995,
    0.02,
    0.97,
)


@dataclass(frozen=True)
class Gate:
    """One bound: `value` must be at least, or for `most` at most, `bound`."""

    name: str
    value: float
    bound: float
    passed: bool
    clips: int


def least(name: str, good: float, clips: int, bound: float, quick: bool) -> Gate:
    """A rate that must reach a bound; in a quick run, that may still reach it (Wilson, 95 %)."""
    rate = good / clips
    reached = wilson(good, clips).high if quick else rate
    return Gate(name, rate, bound, reached >= bound, clips)


def most(name: str, bad: int, clips: int, bound: float, quick: bool) -> Gate:
    """A rate that must not pass a bound; in a quick run, that may still lie within it."""
    rate = bad / clips
    reached = wilson(bad, clips).low if quick else rate
    return Gate(name, rate, bound, reached <= bound, clips)


def clean_gates(outcomes: Sequence[Outcome], quick: bool) -> list[Gate]:
    """Clean clips of a family pass, and can be measured; so do those of another look."""
    family = outcomes[0].treatment.family
    passed = sum(outcome.passed for outcome in outcomes)
    treatment = outcomes[0].treatment
    if treatment.kind == SECOND_STYLE or treatment.name:
        label = treatment.name or SECOND_STYLE
        return [least(f"{label}: {family}", passed, len(outcomes), OTHER_LOOK, quick)]
    unseen = sum(not outcome.measurable for outcome in outcomes)
    return [
        least(f"{CLEAN}: {family}", passed, len(outcomes), CLEAN_PASS, quick),
        most(f"unmeasurable: {family}", unseen, len(outcomes), UNMEASURABLE, quick),
    ]


def corruption_gates(row: dict[str, Any], quick: bool) -> list[Gate]:
    """A corruption at its nominal value is caught, told apart, and fires nothing else.

    The area under the curve is a rate, too: that of corrupted clips above clean ones.
    """
    name = f"{row['family']}/{row['corruption']}"
    return [
        least(f"recall: {name}", row["caught"], row["clips"], RECALL, quick),
        least(f"auroc: {name}", row["auroc"] * row["clips"], row["clips"], AUROC, quick),
        most(f"off target: {name}", row["wrongly"], row["clips"], OFF_TARGET, quick),
    ]


def as_json(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """Gates as the report holds them."""
    return [asdict(gate) for gate in gates]
