"""Physics-IQ's measures and score against cases small enough to work out by hand."""

from dataclasses import astuple

import numpy as np
import pytest

from benchmarks.physics.physics_iq import (
    Measures,
    mean,
    measures,
    motion_masks,
    mse,
    score,
    spatial_iou,
    spatiotemporal_iou,
    weighted_spatial_iou,
)

# Two frames of 1 x 4 pixels. a moves at 0, then at 0 and 1; b moves at 1, then at 1 and 2.
A = np.array([[[1, 0, 0, 0]], [[1, 1, 0, 0]]], bool)
B = np.array([[[0, 1, 0, 0]], [[0, 1, 1, 0]]], bool)
EMPTY = np.zeros_like(A)


def test_spatial_iou_by_hand() -> None:
    """Anywhere: {0, 1} and {1, 2}: 1 of 3."""
    assert spatial_iou(A, B) == pytest.approx(1 / 3)


def test_spatiotemporal_iou_by_hand() -> None:
    """Frame 0: 0 of 2; frame 1: 1 of 3."""
    assert spatiotemporal_iou(A, B) == pytest.approx((0 + 1 / 3) / 2)


def test_weighted_spatial_iou_by_hand() -> None:
    """Shares of time (1, 1/2, 0, 0) and (0, 1, 1/2, 0): minima 1/2, maxima 1 + 1 + 1/2."""
    assert weighted_spatial_iou(A, B) == pytest.approx(0.5 / 2.5)


@pytest.mark.parametrize("measure", [spatial_iou, spatiotemporal_iou, weighted_spatial_iou])
def test_nothing_that_moves_in_either_agrees_and_in_one_does_not(measure) -> None:  # type: ignore[no-untyped-def]
    assert measure(EMPTY, EMPTY) == 1.0
    assert measure(A, A) == 1.0
    assert measure(A, EMPTY) == 0.0


def test_mse_by_hand() -> None:
    """One channel of six is off by 51, a fifth of the range: 0.04 / 6."""
    a = np.zeros((1, 1, 2, 3), np.uint8)
    b = a.copy()
    b[0, 0, 1, 2] = 51
    assert mse(a, b) == pytest.approx(0.04 / 6)
    assert mse(b, a) == mse(a, b), "bytes do not wrap round"


def test_the_score_by_hand() -> None:
    real = Measures(spatial=0.8, spatiotemporal=0.5, weighted_spatial=0.4, mse=0.002)
    model = Measures(spatial=0.4, spatiotemporal=0.1, weighted_spatial=0.1, mse=0.012)
    # (0.1/0.5 + 0.4/0.8 + 0.1/0.4) / 3 - (0.012 - 0.002) = 0.95 / 3 - 0.01
    assert score(model, real) == pytest.approx(100 * (0.95 / 3 - 0.01))
    assert score(real, real) == 100.0
    assert score(Measures(0, 0, 0, 1), real) == 0.0, "clipped"
    assert astuple(mean([model, real])) == pytest.approx((0.6, 0.3, 0.25, 0.007))


def test_motion_masks_find_a_square_that_jumps_and_no_still_or_tiny_thing() -> None:
    """A 9-pixel square jumps by 12: a blurred edge may cost 2 pixels a side of either place."""
    frames = np.full((3, 32, 48, 3), 40, np.uint8)
    frames[:2, 8:17, 6:15] = 200
    frames[2, 8:17, 18:27] = 200
    masks = motion_masks(frames)
    assert not masks[0].any() and not masks[1].any()
    assert masks[2, 10:15, 8:13].all() and masks[2, 10:15, 20:25].all()
    assert not masks[2, 20:].any() and not masks[2, :, 30:].any()
    speck = np.full((2, 32, 48, 3), 40, np.uint8)
    speck[1, 8:10, 8:10] = 200
    assert not motion_masks(speck).any(), "opening removes what is smaller than the kernel"


def test_a_clip_measures_perfectly_against_itself_only() -> None:
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 255, (4, 32, 48, 3), np.uint8)
    assert measures(clip, clip) == Measures(1.0, 1.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="one shape"):
        measures(clip, clip[:3])
