"""The mode table: every mode as often as it says, and each giving what it is named for."""

import math
from collections import Counter

import pytest
import torch

from training.masks import IMAGE_MODES, MODES, Condition, draw_condition, most_references
from training.noise import generator

SIZE = (9, 5, 6)
DRAWS = 6000


def draws(size: tuple[int, int, int], count: int = DRAWS) -> list[Condition]:
    return [draw_condition(size, generator("test", size, n)) for n in range(count)]


@pytest.fixture(scope="module")
def conditions() -> list[Condition]:
    return draws(SIZE)


@pytest.mark.parametrize(("size", "modes"), [(SIZE, MODES), ((1, 5, 6), IMAGE_MODES)])
def test_every_mode_comes_with_its_frequency(
    size: tuple[int, int, int], modes: dict[str, float]
) -> None:
    """Within three standard deviations of its binomial law."""
    counts = Counter(condition.mode for condition in draws(size))
    assert math.isclose(sum(modes.values()), 1.0)
    assert counts.keys() == modes.keys()
    for mode, share in modes.items():
        deviation = math.sqrt(DRAWS * share * (1 - share))
        assert abs(counts[mode] - DRAWS * share) <= 3 * deviation, mode


@pytest.mark.parametrize("frames", range(1, 14))
def test_no_clip_has_more_shown_beside_it_than_is_told(frames: int) -> None:
    """And some have as many; a pack must be able to hold those."""
    found = max(len(condition.references) for condition in draws((frames, 2, 2), 2000))
    assert found == most_references(frames)


def test_what_is_given_is_what_the_mode_is_named_for(conditions: list[Condition]) -> None:
    frames = SIZE[0]
    seen: dict[str, set[int]] = {"extend": set(), "extend_back": set()}
    for condition in conditions:
        whole = condition.clean.flatten(1).all(1).tolist()
        untouched = not condition.clean.any()
        prefix = whole.index(False)
        assert condition.references == tuple(sorted(set(condition.references)))
        match condition.mode:
            case "text":
                assert untouched and not condition.references
            case "first":
                assert prefix == condition.clean.sum() / 30 == 1 and not condition.references
            case "first_last":
                assert prefix == 1 and condition.references == (frames - 1,)
            case "last":
                assert untouched and condition.references == (frames - 1,)
            case "extend":
                assert condition.clean.sum() == 30 * prefix and not condition.references
                seen["extend"].add(prefix)
            case "extend_back":
                count = len(condition.references)
                assert untouched
                assert condition.references == tuple(range(frames - count, frames))
                seen["extend_back"].add(count)
            case "join":
                count = len(condition.references)
                assert 1 <= prefix <= 3 and 1 <= count <= 3
                assert condition.references[0] == frames - count
            case "interpolate":
                assert untouched and len(condition.references) >= 2
    assert seen == {"extend": set(range(2, 7)), "extend_back": set(range(2, 7))}


def test_a_spatial_mask_has_its_size_and_a_box_moves(conditions: list[Condition]) -> None:
    """Rounding a side to whole tokens moves an area by at most a row and a column of it."""
    rounding = (5 + 6) / 2 / 30
    moved = False
    for condition in conditions:
        noisy = (~condition.clean).float().mean((1, 2))
        if condition.mode == "inpaint":
            assert torch.all((noisy > 0.1 - rounding) & (noisy < 0.7 + rounding))
            moved |= not torch.equal(condition.clean[0], condition.clean[-1])
        if condition.mode == "outpaint":
            assert torch.all((1 - noisy > 0.25 - rounding) & (1 - noisy < 0.81 + rounding))
            assert torch.equal(condition.clean, condition.clean[:1].expand(SIZE))
        if condition.mode == "blocks":
            assert condition.clean[:2, :2, :2].float().mean() in (0, 1)
    assert moved


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 1, 1), (2, 2, 2), (3, 1, 7), (5, 8, 8)])
def test_something_is_always_left_to_draw(size: tuple[int, int, int]) -> None:
    """Short clips fold into text alone instead of being given whole."""
    for condition in draws(size, 500):
        assert condition.clean.shape == size and not condition.clean.all()
        assert all(0 <= frame < size[0] for frame in condition.references)
        assert len(condition.references) < max(2, size[0])


def test_the_condition_is_a_function_of_its_generator() -> None:
    one, two = (draw_condition(SIZE, generator(7)) for _ in range(2))
    assert one.mode == two.mode and torch.equal(one.clean, two.clean)
