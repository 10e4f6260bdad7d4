"""Confidence intervals for rates of clustered clips.

The clips of a family are an array `(C, R)`: a row is a prompt, its columns the repeats of that
prompt, padded with NaN at the right. Prompts are drawn first, then repeats within each, because
clips of one prompt are alike (A. C. Davison and D. V. Hinkley, Bootstrap Methods, 1997, §3.8).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
CONFIDENCE = 0.95
DRAWS = 10_000


class Interval(NamedTuple):
    """The ends of a confidence interval."""

    low: float
    high: float


def wilson(successes: float, trials: int, confidence: float = CONFIDENCE) -> Interval:
    """The score interval of a rate (E. B. Wilson, 1927); at 0 and 1 it does not collapse.

    Raises `ValueError` for no trials.
    """
    if trials < 1:
        raise ValueError(f"trials is {trials}; a rate needs 1 or more")
    z = float(norm.ppf((1 + confidence) / 2))
    rate, shrink = successes / trials, 1 + z * z / trials
    middle = (rate + z * z / (2 * trials)) / shrink
    half = z / shrink * np.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    return Interval(float(max(0.0, middle - half)), float(min(1.0, middle + half)))


def macro_mean(families: Sequence[Floats]) -> float:
    """The mean over families of the mean over a family's clips."""
    return float(np.mean([np.nanmean(family) for family in families]))


def bootstrap(families: Sequence[Floats], draws: int = DRAWS, seed: int = 0) -> Floats:
    """`(draws,)` macro-means of samples of prompts, then of repeats; families stay as they are."""
    rng = np.random.default_rng(seed)
    return np.asarray(np.mean([_resampled_means(f, draws, rng) for f in families], axis=0))


def _resampled_means(family: Floats, draws: int, rng: np.random.Generator) -> Floats:
    cases, columns = family.shape
    repeats = np.isfinite(family).sum(axis=1)
    chosen = rng.integers(cases, size=(draws, cases))
    room = repeats[chosen][..., None]
    column = (rng.random((draws, cases, columns)) * room).astype(int)
    drawn = family[chosen[..., None], column]
    drawn[np.arange(columns) >= room] = np.nan
    return np.asarray(np.nanmean(drawn, axis=(1, 2)))


def bca(
    families: Sequence[Floats], draws: int = DRAWS, seed: int = 0, confidence: float = CONFIDENCE
) -> Interval:
    """The bias-corrected and accelerated interval of the macro-mean (B. Efron, 1987).

    The acceleration comes from leaving out one prompt at a time, family by family (Davison and
    Hinkley, §5.3.2, for several samples). Families that never vary add no width here;
    `rate_interval` gives them theirs.
    """
    estimate, samples = macro_mean(families), bootstrap(families, draws, seed)
    if np.ptp(samples) == 0:
        return Interval(estimate, estimate)
    below = np.mean(samples < estimate) + np.mean(samples == estimate) / 2
    bias = norm.ppf(np.clip(below, 0.5 / draws, 1 - 0.5 / draws))
    acceleration = _acceleration(families)
    tails = norm.ppf([(1 - confidence) / 2, (1 + confidence) / 2]) + bias
    levels = norm.cdf(bias + tails / (1 - acceleration * tails))
    low, high = np.quantile(samples, levels)
    return Interval(float(low), float(high))


def _acceleration(families: Sequence[Floats]) -> float:
    cubes = squares = 0.0
    for family in families:
        count = len(family)
        if count < 2:
            continue
        left_out = np.array([np.nanmean(np.delete(family, i, axis=0)) for i in range(count)])
        influence = (count - 1) * (np.nanmean(family) - left_out) / count
        cubes += float((influence**3).sum())
        squares += float((influence**2).sum())
    return cubes / (6 * squares**1.5) if squares else 0.0


def rate_interval(families: Sequence[Floats], draws: int = DRAWS, seed: int = 0) -> Interval:
    """The interval of a macro-mean of rates: BCa, widened where a family is at 0 or 1.

    There the bootstrap sees no spread, so the family's Wilson interval over its prompts is added
    in squares (G. Y. Zou and A. Donner, 2008, "MOVER").
    """
    estimate = macro_mean(families)
    low, high = bca(families, draws, seed)
    below, above = (estimate - low) ** 2, (high - estimate) ** 2
    for family in families:
        rate = float(np.nanmean(family))
        if rate in (0.0, 1.0):
            bounds = wilson(round(rate * len(family)), len(family))
            below += ((rate - bounds.low) / len(families)) ** 2
            above += ((bounds.high - rate) / len(families)) ** 2
    return Interval(max(0.0, estimate - below**0.5), min(1.0, estimate + above**0.5))
