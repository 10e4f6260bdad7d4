"""Clips that are not square or longer than usual show the same world."""

import numpy as np
import pytest

from world import FAMILIES, MAX_FRAMES, NUM_FRAMES, longest, render, sample

LONG = [family for family in FAMILIES if longest(family) == MAX_FRAMES]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(48, 80), (80, 48)])
def test_the_scene_is_in_the_middle_of_a_frame_that_is_not_square(
    family: str, shape: tuple[int, int]
) -> None:
    """There it is what a square frame shows, but for round-off, and soft light past its border."""
    scene = sample(family, 3)
    top, left = ((side - 48) // 2 for side in shape)
    frames = render(scene, shape)
    middle = frames[:, top : top + 48, left : left + 48].astype(int)
    assert frames.shape == (NUM_FRAMES, *shape, 3)
    assert (abs(middle - render(scene, 48)) <= 1).all()


@pytest.mark.parametrize("shape", [(48, 80), (80, 48)])
def test_what_is_beside_the_scene_is_sky_and_ground(shape: tuple[int, int]) -> None:
    """No border is to be seen: neighbours across it are as alike as neighbours elsewhere."""
    frames = render(sample("walk", 5), shape).astype(int)
    top, left = ((side - 48) // 2 for side in shape)
    steps = abs(np.diff(frames, axis=1 if top else 2)).mean(axis=(0, 3))
    border = steps[top - 1] if top else steps[:, left - 1]
    assert border.max() <= 4


@pytest.mark.parametrize("family", LONG)
def test_a_long_clip_goes_on(family: str) -> None:
    scene = sample(family, 4, frames=MAX_FRAMES)
    frames = render(scene)
    assert frames.shape == (MAX_FRAMES, 64, 64, 3)
    assert scene.caption == sample(family, 4).caption


@pytest.mark.parametrize("family", ["drop", "bite", "swing", "pour"])
def test_where_speeds_are_given_a_long_clip_begins_as_a_short_one(family: str) -> None:
    for seed in range(8):
        long, short = render(sample(family, seed, frames=MAX_FRAMES)), render(sample(family, seed))
        assert (long[:NUM_FRAMES] == short).all()


def test_a_ball_comes_to_rest() -> None:
    """Low restitution: the flights grow short, and from then on the ball lies on the floor."""
    scenes = (sample("drop", seed, frames=MAX_FRAMES) for seed in range(200))
    state = min((scene.state for scene in scenes), key=lambda s: s["restitution"] * s["impacts"][0])
    height = state["floor"] - state["radius"] - state["ball"][:, 1]
    assert height.min() >= -1e-12 and (height[-3:] < 1e-3).all() and height[:NUM_FRAMES].max() > 0.2


@pytest.mark.parametrize(
    ("family", "frames", "most"), [("roll", 18, 17), ("drop", 34, 33), ("drop", 16, 33)]
)
def test_a_length_that_a_family_does_not_have_is_refused(
    family: str, frames: int, most: int
) -> None:
    with pytest.raises(ValueError, match=f"frames is {frames}; {family} goes on for 17 to {most}"):
        sample(family, 0, frames=frames)
