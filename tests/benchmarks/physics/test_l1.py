"""Each diagnostic rises for the fault that it is named after, on clips whose truth is known."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.physics.l1 import UNITS, measure, timeline

FPS, COUNT, SIDE = 8.0, 17, 256
Frames = NDArray[np.uint8]


def texture(seed: int, size: int = 512) -> Frames:
    """Smooth coloured noise with corners to follow."""
    noise = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), np.uint8)
    return cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)  # type: ignore[return-value]


def square_over(ground: Frames, step: float, size: int = 96) -> Frames:
    """A textured square that slides over a still ground, `step` pixels a frame."""
    thing, clip = texture(1)[:size, :size], np.repeat(ground[None, :SIDE, :SIDE], COUNT, axis=0)
    for t, frame in enumerate(clip):
        shift = np.array([[1, 0, 20 + step * t], [0, 1, 80]], np.float32)
        mask = cv2.warpAffine(np.full((size, size), 255, np.uint8), shift, (SIDE, SIDE))
        frame[mask > 127] = cv2.warpAffine(thing, shift, (SIDE, SIDE))[mask > 127]
    return clip


@pytest.fixture(scope="module")
def clean() -> Frames:
    return square_over(texture(0), step=4)


@pytest.fixture(scope="module")
def plain(clean: Frames) -> dict[str, float | None]:
    return measure(clean, FPS)


def test_a_pan_has_the_speed_it_has() -> None:
    """6 pixels a frame, 8 a second, over a diagonal of 362: 13.3 %; flow is good to 5 %."""
    clip = np.stack([texture(0)[:SIDE, 6 * t : 6 * t + SIDE] for t in range(COUNT)])
    values = measure(clip, FPS)
    assert values["motion"] == pytest.approx(100 * 6 * FPS / np.hypot(SIDE, SIDE), rel=0.05)
    assert values["track_survival"] is not None and values["track_survival"] > 0.7
    assert values["rigidity"] is not None and values["rigidity"] < 0.01
    assert values["interior_deaths"] is not None and values["interior_deaths"] < 0.1
    assert abs(values["expansion"] or 0) < 0.05


def test_a_still_clip_is_gated() -> None:
    values = measure(np.repeat(texture(0)[None, :SIDE, :SIDE], COUNT, axis=0), FPS)
    assert values["motion"] == pytest.approx(0, abs=0.01) and values["frozen"] == 1.0
    assert values["warping_error"] is None and values["track_survival"] is None
    assert values.keys() == UNITS.keys()


def test_flicker_where_nothing_moves_is_measured_in_percent(
    clean: Frames, plain: dict[str, float | None]
) -> None:
    """Every second frame 5 levels brighter: 5 / 2.55 = 2 % of the range."""
    flickering = clean.copy()
    flickering[::2] = np.clip(flickering[::2].astype(int) + 5, 0, 255)
    assert plain["flicker"] == pytest.approx(0, abs=0.15)
    assert measure(flickering, FPS)["flicker"] == pytest.approx(5 / 2.55, rel=0.15)


def test_things_that_boil_do_not_warp_into_each_other(
    clean: Frames, plain: dict[str, float | None]
) -> None:
    boiling = clean.copy()
    for t, frame in enumerate(boiling):
        frame[150:240, 20:230] = texture(10 + t)[:90, :210]
    values = measure(boiling, FPS)
    for name in ("warping_error", "midpoint_residual"):
        assert (values[name] or 0) > 2 * (plain[name] or 0) + 0.01, name
    assert (values["track_survival"] or 0) < (plain["track_survival"] or 0) - 0.1


def test_a_thing_that_slowly_becomes_another_drifts() -> None:
    """A pan over a texture that turns into another one: no cut, yet patches lose their looks."""
    pans = [
        np.stack([texture(seed)[:SIDE, 3 * t : 3 * t + SIDE] for t in range(COUNT)])
        for seed in (0, 5)
    ]
    share = np.linspace(0, 0.5, COUNT)[:, None, None, None]
    turning = ((1 - share) * pans[0] + share * pans[1]).astype(np.uint8)
    same, other = (measure(clip, FPS)["patch_drift"] or 0 for clip in (pans[0], turning))
    assert other > 0.025 > 2 * same


def test_a_thing_that_pops_out_ends_its_tracks(
    clean: Frames, plain: dict[str, float | None]
) -> None:
    popped = clean.copy()
    popped[6:] = texture(0)[:SIDE, :SIDE]
    values = measure(popped, FPS)
    assert (values["interior_deaths"] or 0) > (plain["interior_deaths"] or 0) + 0.01
    assert (values["largest_cut"] or 0) > 3 * (plain["largest_cut"] or 0)


def test_a_cut_a_freeze_and_a_loop_are_told(clean: Frames) -> None:
    def told(clip: Frames) -> dict[str, float | None]:
        return timeline.measure(clip, clip[..., 1], "")

    plain = told(clean)
    cut = clean.copy()
    cut[8:] = texture(3)[:SIDE, :SIDE] // 2
    assert (told(cut)["largest_cut"] or 0) > 0.5 > 10 * (plain["largest_cut"] or 0)
    frozen = clean.copy()
    frozen[5:13] = frozen[5]
    assert told(frozen)["frozen"] == pytest.approx(7 / 16)
    assert plain["frozen"] == 0.0
    looped = np.concatenate([clean[:6]] * 3)[:COUNT]
    assert (told(looped)["loop"] or 0) > 0.95 > (plain["loop"] or 0) + 0.3


def test_a_shaken_thing_has_more_jerk_and_a_sheared_one_is_less_rigid(
    clean: Frames, plain: dict[str, float | None]
) -> None:
    steps = np.random.default_rng(2).integers(-3, 4, COUNT)
    shaken = np.stack([np.roll(f, s, axis=1) for f, s in zip(clean, steps, strict=True)])
    assert (measure(shaken, FPS)["jerk"] or 0) > 3 * (plain["jerk"] or 0)
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    waves = [
        cv2.remap(
            texture(0)[:SIDE, :SIDE], (x + 0.8 * t * np.sin(y / 30)).astype(np.float32),
            y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        for t in range(COUNT)
    ]  # fmt: skip
    assert (measure(np.stack(waves), FPS)["rigidity"] or 0) > 0.02


def test_growth_has_a_direction_in_time() -> None:
    scales = [1 + 0.03 * t for t in range(COUNT)]
    middle = (256.0, 256.0)
    maps = [cv2.getRotationMatrix2D(middle, 0, s) for s in scales]
    grown = [cv2.warpAffine(texture(0), m, (512, 512))[128:384, 128:384] for m in maps]
    forward = measure(np.stack(grown), FPS)["expansion"]
    backward = measure(np.stack(grown[::-1]), FPS)["expansion"]
    assert forward is not None and backward is not None
    # 3 % a frame of width and height, at scale 1 to 1.5: 2 x 8 x 0.03 / 1.24 on the mean.
    assert forward == pytest.approx(0.39, rel=0.15) and backward == pytest.approx(-0.39, rel=0.15)


@pytest.mark.parametrize(("step", "trend"), [(-2, -1.0), (2, 1.0), (0, 0.0)])
def test_the_area_of_the_named_colour_is_followed(step: int, trend: float) -> None:
    clip = np.full((COUNT, SIDE, SIDE, 3), 200, np.uint8)
    for t, frame in enumerate(clip):
        cv2.circle(frame, (128, 128), 60 + step * t, (30, 60, 220), -1)
        frame[:20, 10 * t : 10 * t + 20] = (200, 40, 40)
    prompts = ("a blue ball", "a ball", "red, blue")
    trends = [timeline.measure(clip, clip[..., 1], p)["colour_trend"] for p in prompts]
    assert trends == [pytest.approx(trend), None, None]


def test_two_frames_are_no_clip() -> None:
    with pytest.raises(ValueError, match="has 2 frames"):
        measure(np.zeros((2, 64, 64, 3), np.uint8), FPS)
