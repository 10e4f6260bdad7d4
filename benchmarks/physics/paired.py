"""Is one model better than another? A paired test over the same prompts and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import binomtest, norm

from benchmarks.physics.intervals import DRAWS, Floats, Interval, bca, bootstrap, macro_mean

ALPHA, POWER = 0.05, 0.8
EXACT_CASES = 13
"""Up to so many prompts that differ, all sign flips (8,192) are gone through."""


@dataclass(frozen=True)
class FamilyDifference:
    """One family's difference, its p-value and that value after Holm's correction."""

    difference: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """B minus A in PCS.

    `p` is of the sign-flip permutation test over prompts; `mcnemar` is there for single seeds
    only; `detectable` is the smallest true difference seen with 80 % power at 5 %.
    """

    a: float
    b: float
    difference: float
    interval: Interval
    p: float
    mcnemar: float | None
    detectable: float
    families: dict[str, FamilyDifference]


def compare(a: Mapping[str, Floats], b: Mapping[str, Floats]) -> Comparison:
    """Compare two models by their passes, family by family.

    Args:
        a, b: 0 or 1 for each clip, `(C, R)` a family, NaN where a prompt has fewer repeats; rows
            and columns of both are the same prompts and seeds.

    Raises:
        ValueError: if the families or the shapes differ.
    """
    if {name: v.shape for name, v in a.items()} != {name: v.shape for name, v in b.items()}:
        raise ValueError("the two do not have the same families, prompts and repeats")
    differences = {name: b[name] - a[name] for name in sorted(a)}
    values = list(differences.values())
    p = {name: sign_flip([value]) for name, value in differences.items()}
    corrected = dict(zip(p, holm(list(p.values())), strict=True))
    single = all(value.shape[1] == 1 for value in values)
    z = norm.ppf(1 - ALPHA / 2) + norm.ppf(POWER)
    return Comparison(
        a=macro_mean(list(a.values())),
        b=macro_mean(list(b.values())),
        difference=macro_mean(values),
        interval=bca(values),
        p=sign_flip(values),
        mcnemar=mcnemar(np.concatenate(values)) if single else None,
        detectable=float(z * bootstrap(values).std()),
        families={
            name: FamilyDifference(macro_mean([value]), p[name], corrected[name])
            for name, value in differences.items()
        },
    )


def sign_flip(families: Sequence[Floats], draws: int = DRAWS, seed: int = 0) -> float:
    """The two-sided p-value of a macro-mean of differences, if each prompt's sign were chance.

    Exact where at most 13 prompts differ, else over `draws` random flips and the observed one.
    """
    weights = np.concatenate(
        [np.nansum(family, 1) / np.isfinite(family).sum() / len(families) for family in families]
    )
    weights = weights[weights != 0]
    observed = abs(weights.sum()) - 1e-12
    if len(weights) <= EXACT_CASES:
        flips = np.array(list(product((-1.0, 1.0), repeat=len(weights))))
        return float(np.mean(abs(flips @ weights) >= observed))
    flips = np.random.default_rng(seed).choice((-1.0, 1.0), (draws, len(weights)))
    return float((1 + np.sum(abs(flips @ weights) >= observed)) / (1 + draws))


def mcnemar(differences: Floats) -> float:
    """The exact p-value for single clips, from those that only one model passed."""
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    if better + worse == 0:
        return 1.0
    return float(binomtest(better, better + worse).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number (S. Holm, 1979), in the order given."""
    corrected, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = highest
    return corrected
