"""The laws behind the detectors, on numbers made by hand."""

import numpy as np
import pytest

from benchmarks.physics.detectors import (
    clip,
    collision,
    colours,
    gravity,
    motion,
    order,
    pendulum,
    stage,
    text,
)
from benchmarks.physics.detectors.bite import Food, changes, losses
from benchmarks.physics.detectors.colours import Colour
from benchmarks.physics.detectors.font import DOTS, LETTERS
from benchmarks.physics.detectors.parts import Part

T = np.arange(17.0)


def test_white_grey_and_the_primaries_have_their_lab_values() -> None:
    """Tolerance 0.1: the published matrix has four digits (Lindbloom, sRGB D65)."""
    rgb = np.array([[255, 255, 255], [119, 119, 119], [255, 0, 0], [0, 0, 255]], np.uint8)
    wanted = [[100, 0, 0], [50.03, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    np.testing.assert_allclose(clip.to_lab(rgb), wanted, atol=0.1)


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((220, 20, 60), Colour.RED),
        ((255, 140, 0), Colour.ORANGE),
        ((255, 215, 0), Colour.YELLOW),
        ((34, 139, 34), Colour.GREEN),
        ((30, 100, 230), Colour.BLUE),
        ((148, 0, 211), Colour.PURPLE),
        ((160, 110, 60), Colour.BROWN),
        ((20, 20, 22), Colour.BLACK),
        ((250, 250, 250), Colour.WHITE),
        ((128, 128, 130), Colour.GREY),
    ],
)
def test_colours_have_the_names_that_people_give_them(
    rgb: tuple[int, int, int], name: Colour
) -> None:
    """Named colours of CSS and their like, none of them the world's."""
    assert colours.name(clip.to_lab(np.array(rgb, np.uint8))) == name


def bouncing(gravity_: float, restitution: float) -> np.ndarray:
    """A ball that falls from 10 to 50 at t = 0 and bounces, in fine steps of exact flights."""
    fall = np.sqrt(2 * 40 / gravity_)
    y, start, speed = np.full(len(T), 10.0), 0.0, 0.0
    bounds = [(0.0, fall, 0.0)]
    speed = restitution * gravity_ * fall
    start = fall
    while start < T[-1]:
        bounds.append((start, start + 2 * speed / gravity_, speed))
        start, speed = start + 2 * speed / gravity_, speed * restitution
    for first, last, up in bounds:
        t = T - first
        inside = (first <= T) & (last > T)
        base = 10.0 if first == 0 else 50.0
        y = np.where(inside, base - up * t + 0.5 * gravity_ * t**2, y)
    return y


@pytest.mark.parametrize(("strength", "restitution"), [(1.1, 0.7), (1.6, 0.8), (0.8, 0.62)])
def test_gravity_and_restitution_are_found_exactly(strength: float, restitution: float) -> None:
    """Without noise the fit is exact: 1e-6 is the round-off of least squares."""
    y = bouncing(strength, restitution)
    fall = gravity.fit(T, y)
    assert fall is not None
    assert fall.gravity == pytest.approx(strength, rel=1e-6)
    assert fall.level == pytest.approx(50.0, abs=1e-6)
    (_, v0), (_, v1) = fall.curves[:2]
    when = fall.impacts[0]
    ratio = -(v1 + strength * when) / (v0 + strength * when)
    assert ratio == pytest.approx(restitution, rel=1e-5)


def test_a_change_of_gravity_leaves_a_rest() -> None:
    y = 10.0 + 0.5 * T**2 * np.where(T < 5, 1.0, 1.5)
    fall = gravity.fit(T[:9], y[:9])
    assert fall is not None and fall.rest.max() > 0.3


@pytest.mark.parametrize("share", [1 / 1.5, 1 / 1.2, 1.0, 1.2])
def test_the_first_fall_is_held_to_the_flights_after_it(share: float) -> None:
    """A first fall under a share of the gravity of all others belies it by that share's logarithm:
    less what a tenth of a pixel makes of theirs, which is below 0.05, and no more than it."""
    y = bouncing(1.1, 0.8)
    first = T[:-1] < np.sqrt(2 * 40 / 1.1) - 1.0
    y[:-1][first] = 10.0 + 0.5 * share * 1.1 * T[:-1][first] ** 2
    fall = gravity.fit(T, y)
    assert fall is not None
    found = gravity.from_rest(T, y, fall, smeared=False)
    true = abs(np.log(share))
    assert max(true - 0.05, 0.0) <= found <= true + 1e-6


def test_an_elastic_collision_is_read_back() -> None:
    contact, reach = 6.4, 10.0
    since = T - contact
    x = (
        np.stack([np.where(since < 0, 2.0, -0.4), np.where(since < 0, 0.0, 1.6)], 1)
        * since[:, None]
    )
    met = collision.meeting(T, x + [20.0, 30.0], reach)
    assert met is not None
    assert met.contact == pytest.approx(contact, abs=1e-9)
    np.testing.assert_allclose(met.before, [2.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(met.after, [-0.4, 1.6], atol=1e-9)


def test_a_damped_swing_is_read_back() -> None:
    """The grid of the fit ends in steps of 0.001."""
    angle = 0.5 * np.exp(-0.013 * T) * np.cos(0.53 * T + 1.0)
    rate, damping, amplitude, rest = pendulum.swing(T, angle)
    assert rate == pytest.approx(0.53, abs=1e-3)
    assert damping == pytest.approx(0.013, abs=1e-3)
    assert amplitude == pytest.approx(0.5, abs=0.01)
    assert rest < 1e-4


def test_even_motion_has_no_jump_and_a_shift_is_one() -> None:
    path = np.stack([10 + 1.7 * T, np.full(17, 40.0)], 1)
    assert motion.jumps(T, path).max() == pytest.approx(0.0, abs=1e-12)
    path[9:] += (8.0, 0.0)
    assert motion.jumps(T, path).max() == pytest.approx(8.0)
    assert motion.change(T, np.stack([1.7 * T, 0 * T], 1)) == pytest.approx(0.0, abs=1e-9)


def test_every_second_step_missing_is_seen() -> None:
    even = np.tile([[1.5, 0.0]], (16, 1))
    assert motion.stutter(even) == pytest.approx(0.0)
    assert motion.stutter(even * (np.arange(16) % 2 * 2)[:, None]) == pytest.approx(1.0)


def test_pixels_that_come_back_have_healed_and_those_no_one_touched_are_uncaused() -> None:
    whole = np.zeros((12, 12), bool)
    whole[2:10, 2:10] = True
    there = np.repeat(whole[None], 6, 0)
    there[2:, 4:8, 2:5] = False  # bitten at 2, on the left
    near = np.zeros_like(there)
    near[1:3, :, :5] = True
    gone = whole & ~there
    healed, uncaused = changes(Food(whole, there, gone, near))
    assert healed.sum() == uncaused.sum() == 0
    assert losses(Food(whole, there, gone, near))[-1] == 12
    back = there.copy()
    back[4:] = whole
    healed, _ = changes(Food(whole, back, whole & ~back, near))
    assert healed.max() == 12
    _, uncaused = changes(Food(whole, there, gone, np.zeros_like(near)))
    assert uncaused.max() == 12


@pytest.mark.parametrize("word", ["FISH", "QUIZ", "JAM", "WAXY"])
@pytest.mark.parametrize("dot", [2.0, 2.6])
def test_words_are_read_at_any_place_and_size(word: str, dot: float) -> None:
    dots = np.concatenate([np.pad(DOTS[LETTERS.index(c)], ((0, 0), (0, 1))) for c in word], 1)
    y, x = (np.arange(int(n * dot) + 8) - 3.3 for n in dots.shape)
    rows, columns = np.floor(y / dot).astype(int), np.floor(x / dot).astype(int)
    inside = (rows >= 0) & (rows < 7), (columns >= 0) & (columns < dots.shape[1])
    shown = dots[rows.clip(0, 6)][:, columns.clip(0, dots.shape[1] - 1)]
    ink = np.where(np.outer(*inside), shown, 0.0)
    assert text.spell(ink) == word


def test_edits_are_counted() -> None:
    assert text.edits("KITTEN", "SITTING") == 3
    assert text.edits("", "ABC") == 3


def test_repeats_of_a_converted_clip_are_left_out_and_a_true_one_is_sampled() -> None:
    ramp = (np.arange(17)[:, None, None, None] * np.ones((1, 64, 64, 3)) * 14).astype(np.uint8)
    shown = ramp[np.floor(np.arange(25) * 8 / 12 + 1e-9).astype(int)]
    assert (clip.bring(shown, 12.0).lab == clip.bring(ramp, 8.0).lab).all()
    true = clip.bring(np.repeat(ramp, 2, 0)[:33], 16.0)
    np.testing.assert_allclose(true.time, np.arange(17.0))


@pytest.mark.parametrize("shape", [(17, 64, 64), (3, 64, 64, 3), (17, 16, 64, 3)])
def test_what_is_no_clip_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames are"):
        clip.bring(np.zeros(shape, np.uint8), 8.0)


def test_a_swing_of_two_rates_or_with_a_halt_is_no_swing() -> None:
    """K5 holds 1 - R^2 to 0.02: exact swings leave less than 1e-4, these 0.05 and more."""
    even = 0.5 * np.cos(0.5 * T)
    faster = 0.5 * np.cos(np.where(T < 8, 0.5 * T, 0.5 * T + 0.4 * (T - 8)))
    halted = even[np.where(T < 5, T, np.maximum(5, T - 4)).astype(int)]
    assert pendulum.swing(T, even)[3] < 1e-4
    assert min(pendulum.swing(T, faster)[3], pendulum.swing(T, halted)[3]) > 0.05
    growing = pendulum.swing(T, 0.2 * np.exp(0.03 * T) * np.cos(0.5 * T))
    assert growing[1] == pytest.approx(-0.03, abs=1e-3), "a swing that gains has negative damping"


def test_the_onset_is_the_first_frame_out_of_place_and_the_rest_the_last() -> None:
    """A thing moves from frame 6 on, by 2 pixels a frame, to frame 10: 1.2 pixels are passed at 7,
    and still missing at 9."""
    path = np.stack([20.0 + 2.0 * np.clip(T - 6, 0, 4), np.full(17, 30.0)], 1)
    assert (order.onset(T, path), order.settled(T, path)) == (7.0, 9.0)
    still = np.full((17, 2), 5.0)
    assert np.isnan(order.onset(T, still)) and np.isnan(order.settled(T, still))
    hidden = path.copy()
    hidden[:4] = np.nan
    assert order.onset(T, hidden) == 7.0, "the place it is first seen at is its first place"
    drop = np.stack([np.full(17, 9.0), 10.0 + 2.0 * np.clip(T - 6, 0, 4)], 1)
    assert order.onset(T, drop) == 7.0, "down is as good as aside"


def test_a_shadow_is_ground_that_is_darker_and_has_kept_its_hue() -> None:
    """30 % of the light gone is 30 % of a soft shadow and 60 % of a deep one, to 3 %; a thing of
    another hue is none, nor is anything in the sky, nor what is brighter."""
    picture = np.empty((20, 16, 3), np.float32)
    picture[:10], picture[10:] = (80.0, -5.0, -20.0), (60.0, -20.0, 30.0)
    dim = (0.0, 0.0, -6.0)
    lab = picture[None].copy()
    lab[0, 14, 2:5] += 0.3 * (np.array(dim) - picture[14, 2:5])
    lab[0, 14, 8] = (50.0, 60.0, 40.0)
    lab[0, 14, 10] *= 1.2
    lab[0, 4, 2:5] *= 0.7
    lab[0, 16, 2:5] += 0.6 * (np.array(dim) - picture[16, 2:5])
    soft, deep = stage._shadow(lab, picture, 10)
    np.testing.assert_allclose(soft[0, 14, 2:5], 0.3, atol=0.03)
    np.testing.assert_allclose(deep[0, 16, 2:5], 0.6, atol=0.03)
    soft[0, 14, 2:5] = deep[0, 16, 2:5] = 0.0
    assert not soft.any() and not deep.any()


def test_what_stands_on_one_floor_is_as_much_larger_as_its_middle_is_higher() -> None:
    """An outline that is lost makes a ball of radius 6 look like 5.5: half of that is mended."""
    seen = np.ones(5, bool)

    def ball(radius: float, looks: float) -> Part:
        centre = np.stack([np.full(5, 20.0), np.full(5, 50.0 - radius)], 1)
        none, size = np.zeros(5), np.full(5, np.pi * looks**2)
        shades = np.zeros((5, 3)), none, none
        doubt = np.zeros((5, 2))
        return Part(np.zeros((5, 4, 4)), size, centre, *shades, none.astype(int), seen, doubt)

    sizes = collision.sizes(ball(5.0, 5.0), ball(6.0, 5.5), np.arange(5))
    np.testing.assert_allclose(sizes, (4.875, 5.625), atol=1e-9)
