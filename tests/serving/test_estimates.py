"""Estimates come from finished jobs of the same shape, and scale as the work does elsewhere."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.estimates import PACED_BY, PER_SHAPE, Shape, Stages, expect, learn, wait

SMALL, LARGE = Shape(64, 64, 1, 9, 4), Shape(128, 64, 1, 17, 8)


def finished(shape: Shape, text: float, denoise: float, rest: float) -> dict[str, Any]:
    timings = {"queue": 99.0, "text": text, "denoise": denoise, "decode": rest / 2}
    spent = text + denoise + rest
    return {"shape": shape.key, "timings": timings, "started_at": 7.0, "completed_at": 7 + spent}


def test_a_shape_is_what_a_resolved_request_costs_and_reads_back_from_its_key() -> None:
    resolved = {"width": 64, "height": 48, "scale": 8, "num_frames": 17, "num_inference_steps": 24}
    shape = Shape.of(resolved | {"prompt": "a cat", "seed": 5})
    assert shape.key == "64x48x8x17x24" and Shape.parse(shape.key) == shape
    assert Shape.of(resolved | {"strength": 0.5}).steps == 12
    assert shape.work == 64 * 48 * 17 * 24 and shape.pixels == 512 * 384 * 17


def test_the_median_of_the_latest_jobs_of_that_shape_is_expected() -> None:
    jobs = [finished(SMALL, 1.0, seconds, 2.0) for seconds in (3.0, 90.0, 4.0)]
    jobs += [finished(LARGE, 1.0, 40.0, 2.0)]
    learned = learn(jobs)
    assert expect(SMALL, learned) == pytest.approx(Stages(1.0, 4.0, 2.0))
    assert expect(LARGE, learned) == pytest.approx(Stages(1.0, 40.0, 2.0))
    # Of more than PER_SHAPE jobs the older ones are forgotten.
    jobs = [finished(SMALL, 0.0, 5.0, 0.0)] * PER_SHAPE + [finished(SMALL, 0.0, 1.0, 0.0)] * 50
    assert expect(SMALL, learn(jobs)) == pytest.approx(Stages(0.0, 5.0, 0.0))


def test_all_shapes_are_expected_in_the_pace_of_the_latest_jobs() -> None:
    rare, slow = [finished(LARGE, 2.0, 80.0, 4.0)] * 2, [finished(SMALL, 2.0, 8.0, 4.0)] * PER_SHAPE
    half, usual = Stages(1.0, 40.0, 2.0), Stages(2.0, 80.0, 4.0)
    quick = [finished(SMALL, 1.0, 4.0, 2.0)]
    few = PACED_BY // 2
    assert expect(LARGE, learn(quick * (few + 1) + slow + rare)) == pytest.approx(half)
    assert expect(LARGE, learn(quick * few + slow + rare)) == pytest.approx(usual)
    # The only job of its shape tells no pace.
    assert expect(SMALL, learn(rare[:1] + quick * 2)) == pytest.approx(Stages(1.0, 4.0, 2.0))


def test_a_new_shape_is_scaled_by_tokens_and_steps_and_its_file_by_pixels() -> None:
    assert expect(SMALL, {}) is None
    learned = learn([finished(SMALL, 1.0, 4.0, 2.0)])
    longer = SMALL._replace(steps=12)
    assert expect(longer, learned) == pytest.approx(Stages(1.0, 12.0, 2.0))
    enlarged = SMALL._replace(scale=2)
    assert expect(enlarged, learned) == pytest.approx(Stages(1.0, 4.0, 8.0))
    # From the nearest of several: twice the steps of LARGE, and far from SMALL.
    learned |= {LARGE: Stages(1.0, 50.0, 3.0)}
    assert expect(LARGE._replace(steps=16), learned) == pytest.approx(Stages(1.0, 100.0, 3.0))


@pytest.mark.parametrize(
    ("step", "since", "left"),
    [
        *((0, 0.0, 14.0), (0, 1.5, 12.5), (0, 60.0, 10.5)),  # 1 before, 4 steps of 2.5, 3 after
        *((1, 0.0, 10.5), (1, 1.0, 9.5), (1, 60.0, 8.0)),
        *((4, 0.0, 3.0), (4, 2.0, 1.0), (4, 60.0, 0.0)),
    ],
)
def test_what_remains_goes_by_the_steps_taken_and_the_time_since(
    step: int, since: float, left: float
) -> None:
    assert Stages(1.0, 10.0, 3.0).remaining(step, 4, since) == pytest.approx(left)


def test_the_wait_for_one_worker_is_the_sum_and_several_share_it() -> None:
    assert wait(0.0, [5.0]) == 5.0
    assert wait(30.0, [5.0]) == 35.0
    assert wait(0.0, [100.0, 2.0]) == 2.0
    assert wait(30.0, [0.0, 0.0, 0.0]) == 10.0
    # The free one works alone until the other is through: 10 s of 30, and the rest in two halves.
    assert wait(30.0, [10.0, 0.0]) == 20.0


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=6), st.floats(0, 1e4))
def test_what_is_waited_is_what_the_workers_do_meanwhile(busy: list[float], work: float) -> None:
    level = wait(work, busy)
    assert level >= min(busy)
    done = sum(max(level - taken, 0.0) for taken in busy)
    assert done == pytest.approx(work, rel=1e-9, abs=1e-6)
