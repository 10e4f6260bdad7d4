"""How far a judge is to be believed, family by family, and what its rate is worth then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.physics.intervals import CONFIDENCE, DRAWS, Floats, Interval

AUROC, SPECIFICITY = 0.8, 0.8
"""What a judge must reach on planted clips of a family to be believed there."""


@dataclass(frozen=True)
class Ability:
    """A judge's record on planted clips of a family.

    `sensitivity` is the share of right clips that it passes, `specificity` the share of wrong ones
    that it fails, `auroc` how well its credit ranks right above wrong.
    """

    right: tuple[bool, ...]
    wrong: tuple[bool, ...]
    auroc: float

    @property
    def sensitivity(self) -> float:
        """P(passes | right)."""
        return float(np.mean(self.right))

    @property
    def specificity(self) -> float:
        """P(fails | wrong)."""
        return 1.0 - float(np.mean(self.wrong))

    @property
    def admitted(self) -> bool:
        """Whether the judge is believed in this family."""
        return self.auroc >= AUROC and self.specificity >= SPECIFICITY


def ability(trials: Sequence[tuple[bool, bool, float]]) -> Ability:
    """The record from trials: whether a clip is right, whether the judge passed it, its credit."""
    right = [(passed, credit) for truth, passed, credit in trials if truth]
    wrong = [(passed, credit) for truth, passed, credit in trials if not truth]
    return Ability(
        tuple(passed for passed, _ in right),
        tuple(passed for passed, _ in wrong),
        auroc([credit for _, credit in right], [credit for _, credit in wrong]),
    )


def auroc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """How often one of `higher` is above one of `lower`, ties by half."""
    a, b = np.asarray(higher)[:, None], np.asarray(lower)[None]
    return float(np.mean((a > b) + (a == b) / 2))


def corrected(observed: float, sensitivity: float, specificity: float) -> float:
    """The true rate behind an observed one (W. J. Rogan and B. Gladen, 1978), within [0, 1]."""
    knows = sensitivity + specificity - 1
    if knows <= 0:
        return float("nan")
    return float(np.clip((observed + specificity - 1) / knows, 0.0, 1.0))


def corrected_interval(
    passes: Floats, known: Ability, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The interval of the corrected rate, drawing prompts and both kinds of controls together.

    Args:
        passes: what the judge passed, `(C, R)`, a row a prompt.
        known: its record on controls.
    """
    rng = np.random.default_rng(seed)
    rows = rng.integers(len(passes), size=(draws, len(passes)))
    observed = np.nanmean(passes[rows], axis=(1, 2))
    right, wrong = (
        rng.binomial(len(t), np.mean(t), draws) / len(t) for t in (known.right, known.wrong)
    )
    knows = np.maximum(right - wrong, 1e-9)
    rates = np.clip((observed - wrong) / knows, 0.0, 1.0)
    low, high = np.quantile(rates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def kappa(a: Mapping[object, bool], b: Mapping[object, bool]) -> float | None:
    """Cohen's kappa of two judges over the clips that both graded; None if both always agree."""
    shared = sorted(a.keys() & b.keys(), key=repr)
    x, y = (np.array([judge[key] for key in shared], float) for judge in (a, b))
    agreed = float((x == y).mean())
    chance = float(x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean()))
    return (agreed - chance) / (1 - chance) if chance < 1 else None
