"""The paired test against p-values worked out by hand, and its promises about chance."""

import numpy as np
import pytest

from benchmarks.physics.intervals import Floats
from benchmarks.physics.paired import compare, holm, mcnemar, sign_flip


def column(*values: float) -> Floats:
    return np.array(values, dtype=float)[:, None]


def test_sign_flips_of_five_equal_differences() -> None:
    """Of 2^5 flips only all-plus and all-minus are as large: p = 2 / 32."""
    assert sign_flip([column(1, 1, 1, 1, 1)]) == 2 / 32
    assert sign_flip([column(1, 1, 1, 1, 1, 0, 0)]) == 2 / 32, "ties say nothing"
    assert sign_flip([column(1, -1)]) == 1.0


def test_many_sign_flips_agree_with_the_normal_law() -> None:
    """60 prompts, 40 better, 20 worse: z = 20 / sqrt(60), with continuity 19 / sqrt(60)."""
    p = sign_flip([column(*[1] * 40, *[-1] * 20)])
    assert p == pytest.approx(0.0143, abs=0.004)  # binomtest(40, 60) = 0.0135; 3 errors of draws


def test_mcnemar_is_the_binomial_test_of_the_discordant() -> None:
    assert mcnemar(column(*[1] * 8, *[-1] * 1, *[0] * 50)) == pytest.approx(2 * 10 / 2**9)
    assert mcnemar(column(0, 0)) == 1.0


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_model_that_loses_one_clip_in_ten_is_found_worse() -> None:
    rng = np.random.default_rng(0)
    a = {name: (rng.random((20, 2)) < 0.8).astype(float) for name in ("bite", "roll", "walk")}
    b = {name: value.copy() for name, value in a.items()}
    assert compare(a, b).p == 1.0 and compare(a, b).difference == 0.0
    b["roll"] *= 0.0
    result = compare(a, b)
    assert result.difference == pytest.approx(-a["roll"].mean() / 3)
    assert result.interval.low <= result.difference <= result.interval.high < 0
    assert result.p < 0.001 and result.families["roll"].p_holm < 0.01
    assert result.families["bite"].p_holm == 1.0
    assert result.mcnemar is None, "not for repeats"


def test_different_prompts_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="same families"):
        compare({"bite": column(1, 0)}, {"bite": column(1)})


def test_the_detectable_difference_is_2_8_standard_errors() -> None:
    """Single clips: the error of the mean is sd/sqrt(n); z(0.975) + z(0.8) = 2.802."""
    d = column(*[1] * 20, *[0] * 60, *[-1] * 20)
    a = {"bite": (d < 0).astype(float)}
    b = {"bite": (d > 0).astype(float)}
    expected = 2.802 * d.std() / 10
    assert compare(a, b).detectable == pytest.approx(expected, rel=0.04)


@pytest.mark.proof
def test_models_that_do_not_differ_are_called_different_one_time_in_twenty() -> None:
    """400 pairs at p < 0.05: at most 0.05 + 3 binomial errors of 0.011, conservatively less."""
    rng, called = np.random.default_rng(1), 0
    for index in range(400):
        rates = rng.beta(1, 1, (15, 1))
        a, b = ((rng.random((15, 3)) < rates).astype(float) for _ in range(2))
        called += sign_flip([b - a], draws=1000, seed=index) < 0.05
    print(f"equal models called different: {called / 400:.3f}")
    assert 0.002 <= called / 400 <= 0.083
