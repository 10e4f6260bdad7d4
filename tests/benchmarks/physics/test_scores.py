"""PCS and PMR by hand, and what counts as a clip that did not pass."""

from dataclasses import replace

import pytest

from benchmarks.physics.scores import Outcome, score


def outcome(case: int, family: str, repeat: int = 0, passed: bool = True) -> Outcome:
    return Outcome(f"{family}-{case}", family, repeat, "graded", True, True, passed)


def test_pcs_is_the_mean_over_families_not_over_clips() -> None:
    clips = [outcome(i, "bite", passed=i < 1) for i in range(4)]
    clips += [outcome(0, "walk", repeat) for repeat in range(2)]
    result = score(clips)
    assert result.families["bite"].pcs == 0.25 and result.families["walk"].pcs == 1.0
    assert result.pcs == 0.625
    assert (result.cases, result.clips) == (5, 6)


@pytest.mark.parametrize("missing", ["measurable", "semantic", "physics"])
def test_a_clip_passes_only_if_it_is_measurable_meant_and_physical(missing: str) -> None:
    good = outcome(0, "bite")
    bad = replace(outcome(1, "bite"), **{missing: False})
    result = score([good, bad])
    assert result.pcs == 0.5
    assert result.pmr == (0.5 if missing == "measurable" else 1.0)


def test_failed_and_refused_clips_count_and_are_shown() -> None:
    clips = [outcome(i, "bite") for i in range(8)]
    clips += [Outcome("bite-8", "bite", 0, "failed"), Outcome("bite-9", "bite", 0, "refused")]
    result = score(clips)
    assert (result.clips, result.failed, result.refused) == (10, 1, 1)
    assert result.pcs == result.pmr == 0.8


def test_no_clips_and_doubled_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="no clips"):
        score([])
    with pytest.raises(ValueError, match="2 clips, but 1 pairs"):
        score([outcome(0, "bite"), outcome(0, "bite")])
