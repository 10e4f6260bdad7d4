"""How grainy, converted and smeared clips are read, on frames and numbers made by hand."""

import numpy as np
import pytest

from benchmarks.physics.detectors import clip, falling, haze, motion, steady
from benchmarks.physics.detectors.parts import Part, measure
from benchmarks.physics.detectors.permanence import away

T = np.arange(17.0)


def disc(x: np.ndarray, y: float, radius: float = 5.0) -> Part:
    """A disc on a path; where x is NaN it is not there."""
    rows, columns = np.mgrid[:64, :64] + 0.5
    far = np.hypot(columns - np.nan_to_num(x, nan=-99.0)[:, None, None], rows - y)
    mask = np.clip(radius + 0.5 - far, 0.0, 1.0).astype(np.float32)
    blank = np.full((len(x), 3), np.nan)
    return measure(mask, (blank, np.zeros(len(x)), np.zeros(len(x))), mask > 0.5)


def test_noise_is_measured_and_taken_away_but_no_edge() -> None:
    """Noise of 10: its estimate within 15 %, an error of the mean square three times smaller, and
    a step of 120 that keeps nine tenths of its height."""
    truth = np.full((9, 40, 48, 3), 60, np.uint8)
    truth[:, :, 24:] = 180
    noisy = truth + np.random.default_rng(0).normal(0.0, 10.0, truth.shape)
    noisy = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    noise = clip.grain(noisy)
    assert noise == pytest.approx(10.0, rel=0.15)
    assert clip.grain(truth) == 0.0
    smooth = clip.smooth(noisy, noise).astype(float)
    assert np.sqrt(((smooth - truth) ** 2).mean()) < 10.0 / 3.0
    assert smooth[:, :, 24].mean() - smooth[:, :, 23].mean() > 0.9 * 120.0


def test_a_clip_at_a_converted_rate_has_the_times_of_its_own_frames() -> None:
    frames = np.zeros((17, 64, 64, 3), np.uint8)
    for t in range(17):
        frames[t, 20:30, 2 * t + 4 : 2 * t + 14] = 200
    converted = frames[np.floor(np.arange(25) * 8 / 12 + 1e-9).astype(int)]
    brought = clip.bring(converted, 12.0)
    np.testing.assert_allclose(brought.time, T, atol=1e-9)
    np.testing.assert_allclose(brought.lab, clip.to_lab(frames), atol=1e-4)


def test_only_the_border_lets_a_thing_leave() -> None:
    leaves = np.where(T < 10, 45.0 + 2.0 * T, np.nan)
    assert away(disc(leaves, 32.0))[10:].all()
    vanishes = np.where(T < 10, 20.0 + T, np.nan)
    assert not away(disc(vanishes, 32.0)).any()
    returns_at_the_border = np.where(T < 8, 20.0, np.where(T < 12, np.nan, 62.0))
    gone = away(disc(returns_at_the_border, 32.0))
    assert not gone[8:12].any() and gone[12:].all()


def test_a_step_over_the_border_is_seen_by_the_edge_that_stays() -> None:
    """The border cuts the disc from frame 10 on; a jump of 6 pixels there is read to a pixel."""
    even = disc(41.0 + 1.8 * T, 32.0)
    at = motion.visible(even)
    assert at[-1] < 12
    assert motion.crossing(T, even, at).value < 0.6
    jumped = disc(41.0 + 1.8 * T + 6.0 * (at[-1] + 1 <= T), 32.0)
    assert motion.crossing(T, jumped, motion.visible(jumped)).value == pytest.approx(6.0, abs=1.0)


def test_a_saw_of_four_frames_is_no_shift_and_a_step_is_one() -> None:
    saw = np.stack([2.0 * T - 0.5 * ((T - 1) % 4), np.full(17, 40.0)], 1)
    assert motion.jumps(T, saw).max() > 1.4
    assert motion.shifts(T, saw).max() < 0.4
    step = np.stack([2.0 * T + 8.0 * (T > 8), np.full(17, 40.0)], 1)
    assert motion.shifts(T, step).max() > 4.0


def test_one_ghost_moves_the_rest_of_a_sharp_clip_alone() -> None:
    off = np.full(9, 0.1)
    off[4] = 3.0
    assert haze.rest_of(off, 0.0) > 0.9
    assert haze.rest_of(off, 2.0) == pytest.approx(0.14826)


def test_growth_and_smears_alone_do_not_leave_the_floor() -> None:
    """A disc that grows on its foot keeps that, one in a smear its middle; a hop keeps neither."""
    at = np.arange(17)
    flat = disc(np.full(17, 30.0), 40.0)
    assert steady.off_level(flat, at).max() < 0.05
    rows, columns = np.mgrid[:64, :64] + 0.5
    radius = np.where(T > 8, 7.0, 5.0)[:, None, None]
    far = np.hypot(columns - 30.0, rows - (45.0 - radius))
    mask = np.clip(radius + 0.5 - far, 0.0, 1.0).astype(np.float32)
    blank = (np.full((17, 3), np.nan), np.zeros(17), np.zeros(17))
    assert steady.off_level(measure(mask, blank, mask > 0.5), at).max() < 0.2
    hop = np.clip(5.5 - np.hypot(columns - 30.0, rows - 40.0 + 4.0 * (T == 8)[:, None, None]), 0, 1)
    assert steady.off_level(measure(hop, blank, hop > 0.5), at).max() == pytest.approx(4, abs=0.1)


def test_a_fall_is_the_square_of_an_even_root() -> None:
    way = 0.5 * 1.2 * (T[3:10] - 2.0) ** 2
    fit = falling._rate(T[3:10], np.sqrt(way))
    assert 2.0 * fit[0] ** 2 == pytest.approx(1.2)
