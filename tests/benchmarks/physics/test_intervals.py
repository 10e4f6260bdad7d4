"""Intervals against published values, scipy's BCa, and their promise: 95 % hold the truth."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap

from benchmarks.physics.intervals import (
    Floats,
    bca,
    bootstrap,
    macro_mean,
    rate_interval,
    wilson,
)


def clustered(rng: np.random.Generator, cases: int, repeats: int, mean: float) -> Floats:
    """0 or 1 for each clip; a prompt's own rate is Beta with a spread like that of prompts."""
    rates = rng.beta(2 * mean, 2 * (1 - mean), cases)
    return (rng.random((cases, repeats)) < rates[:, None]).astype(float)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3; the last is z² alone.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
     (1, 29, 0.0061, 0.1718), (200, 200, 0.98116, 1.0)],
)  # fmt: skip
def test_wilson_gives_the_published_intervals(
    successes: int, trials: int, low: float, high: float
) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_what_was_never_seen_is_bounded_as_the_rule_of_three_does() -> None:
    """3 / n bounds from one side at 95 %; Wilson's two-sided interval is z² / 3 = 1.28 as wide."""
    for trials in (100, 1000):
        assert wilson(0, trials).high == pytest.approx(1.28 * 3 / trials, rel=0.05)


def test_bca_of_single_clips_is_scipys() -> None:
    """With one family and one repeat both draw the same thing: equal but for the draws' noise.

    An end of a 95 % interval from 10,000 draws has a standard error near 0.02 of its width.
    """
    values = np.random.default_rng(1).gamma(2.0, size=40)
    theirs = scipy_bootstrap(
        (values,), np.mean, n_resamples=10_000, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    ours = bca([values[:, None]])
    assert ours == pytest.approx(tuple(theirs), abs=0.05 * (theirs.high - theirs.low))
    symmetric = values.mean() - (ours.high - values.mean())
    assert ours.low > symmetric, "a skewed sample has a skewed interval"


def test_repeats_of_a_prompt_do_not_count_as_prompts() -> None:
    """Twelve prompts whose repeats all agree: 8 repeats leave the interval as wide as 1 does."""
    rates = np.tile([0.0, 1.0], 6)[:, None]
    one, eight = bca([rates]), bca([np.repeat(rates, 8, axis=1)])
    assert eight == pytest.approx(one, abs=1e-12)
    assert eight.high - eight.low > 0.4  # 96 independent clips would give 0.2


def test_the_variance_is_that_of_the_two_stages() -> None:
    """Var = var(prompt means)/C + mean(within)/(C R), in closed form; 10,000 draws: 3 % of it."""
    family = clustered(np.random.default_rng(3), 20, 4, 0.5)
    within = (family.mean(1) * (1 - family.mean(1))).mean() / (20 * 4)
    expected = family.mean(1).var() / 20 + within
    assert bootstrap([family]).var() == pytest.approx(expected, rel=0.06)
    two = bootstrap([family, family]).var()
    assert two == pytest.approx(expected / 2, rel=0.06), "families are drawn apart"


def test_prompts_may_have_different_numbers_of_repeats() -> None:
    family = np.array([[1.0, 1.0, 0.0], [0.0, np.nan, np.nan]])
    assert macro_mean([family]) == 0.5
    samples = bootstrap([family])
    assert np.isfinite(samples).all() and samples.min() == 0.0 and samples.max() == 1.0


def test_a_family_that_always_passes_still_has_an_interval() -> None:
    perfect = np.ones((8, 2))
    assert bca([perfect]) == (1.0, 1.0)
    assert rate_interval([perfect]) == pytest.approx(wilson(8, 8))
    mixed = [perfect, np.zeros((8, 2)), clustered(np.random.default_rng(4), 8, 2, 0.5)]
    narrow, wide = bca(mixed), rate_interval(mixed)
    assert wide.low < narrow.low and wide.high > narrow.high


@pytest.mark.proof
def test_95_percent_of_intervals_hold_the_truth() -> None:
    """400 data sets of 4 families x 10 prompts x 3 repeats: the binomial error of 0.95 is 0.011.

    The second stage makes two-stage intervals slightly wide (Davison and Hinkley, §3.8), so the
    upper bound is loose.
    """
    means = (0.2, 0.5, 0.7, 0.9)
    rng, held = np.random.default_rng(5), 0
    for index in range(400):
        families = [clustered(rng, 10, 3, mean) for mean in means]
        low, high = rate_interval(families, draws=1000, seed=index)
        held += low <= np.mean(means) <= high
    print(f"coverage of the 95 % interval: {held / 400:.3f}")
    assert 0.925 <= held / 400 <= 0.99
