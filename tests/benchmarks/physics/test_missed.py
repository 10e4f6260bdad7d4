"""Clips that a full validation found to be missed: the detector that is there for them fires.

And figures behind it, on numbers made by hand.
"""

import numpy as np
import pytest

from benchmarks.physics.detectors import judge, read
from benchmarks.physics.detectors.bite import rises
from benchmarks.physics.detectors.immutability import common, stepped
from world import captions
from world.corruptions import CORRUPTIONS, corrupt
from world.render import render
from world.scene import sample


@pytest.mark.parametrize(
    ("family", "corruption", "detector", "seed"),
    [
        ("hide", "resize", "O3", 800008),  # seen half hidden between its two sizes
        ("hide", "resize", "O3", 800042),
        ("hide", "teleport", "O1", 800026),  # between two frames beside the wall
        ("hide", "teleport", "O1", 800090),
        ("drop", "recolour", "O3", 800034),  # white before a pale sky, as a halo is
        ("drop", "recolour", "C2", 800066),
        ("bite", "shuffled", "B1", 800033),  # as many losses as were asked, and others between
        ("bite", "shuffled", "B1", 800135),
    ],
)
def test_what_was_missed_is_caught(family: str, corruption: str, detector: str, seed: int) -> None:
    scene = sample(family, seed)
    expect = captions.parse(scene.caption)
    assert expect and judge(read(render(scene, 64), family, expect)).passed
    broken = corrupt(scene, corruption, CORRUPTIONS[corruption].nominal)
    assert judge(read(render(broken, 64), family, expect)).errors[detector] > 1.0


def test_a_growth_is_seen_though_no_size_is_usual() -> None:
    """Sizes of 100, 115 once and 150: the usual one lies between, the step is that of all."""
    ratio = np.log(np.array([100.0, 100, 100, 115, 150, 150, 150]) / 115)
    assert np.abs(ratio).max() < 0.32 < stepped(ratio).max()
    assert stepped(ratio).max() == pytest.approx(np.log(1.5))
    assert stepped(np.log([1.0, 1, 1, 1, 9.0, 1, 1])).max() == 0.0, "one frame is no step"
    assert not stepped(ratio[:5]).any(), "too few to have one"


def test_two_changes_have_in_common_what_is_the_smaller_of_like_ones() -> None:
    found = common(np.array([0.4, -0.4, 0.4]), np.array([0.3, -0.5, -0.1]))
    np.testing.assert_allclose(found, [0.3, -0.4, 0.0])


@pytest.mark.parametrize(
    ("levels", "count"),
    [
        ([0.0, 0.07, 0.07], 1),
        ([0.0, 0.03, 0.06, 0.1], 1),
        ([0.0, 0.07, 0.0, 0.07], 2),
        ([0.07, 0.0, 0.07, 0.055, 0.07], 2),  # a waver of less than a piece is none
        ([0.0, 0.019, 0.0], 0),
    ],
)
def test_what_comes_back_and_goes_again_is_another_bite(levels: list[float], count: int) -> None:
    assert rises(np.diff(levels, prepend=0.0)) == count
