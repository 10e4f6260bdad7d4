"""Packing: nothing is lost or split, packs keep to their budget, and a packer can be resumed."""

import random

import pytest

from training.packing import Pack, Packer, balance, deal

BUDGET = 100


def stream(count: int = 3000, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.choice((7, 11, 23, 38, 51, 100)) for _ in range(count)]


def pack_all(lengths: list[int], **options: int) -> list[Pack]:
    packer = Packer(BUDGET, smallest=7, **options)
    return [p for i, n in enumerate(lengths) for p in packer.add(i, n)] + packer.flush()


def test_every_clip_is_in_exactly_one_pack_and_no_pack_is_over_its_limits() -> None:
    lengths = stream()
    packs = pack_all(lengths, open_packs=5, segments=6)
    assert sorted(i for pack in packs for i in pack.ids) == list(range(len(lengths)))
    assert all(pack.lengths == tuple(lengths[i] for i in pack.ids) for pack in packs)
    assert all(pack.tokens <= BUDGET and len(pack.ids) <= 6 for pack in packs)


def test_a_clip_goes_where_it_leaves_least_room() -> None:
    packer = Packer(BUDGET, smallest=7)
    for clip, length in enumerate((60, 75)):
        assert packer.add(clip, length) == []
    assert packer.add(2, 25) == [Pack((1, 2), (75, 25))]
    assert packer.add(3, 34) == [Pack((0, 3), (60, 34))]


def test_no_more_packs_are_open_than_allowed_and_the_fullest_is_closed_first() -> None:
    packer = Packer(BUDGET, smallest=7, open_packs=2)
    assert packer.add(0, 51) == packer.add(1, 60) == []
    assert packer.add(2, 70) == [Pack((1,), (60,))]
    assert {pack.ids for pack in packer.flush()} == {(0,), (2,)}


def test_more_open_packs_fill_better() -> None:
    """The measure of fill can tell a worse packing from a better one."""
    few, many = (len(pack_all(stream(), open_packs=n)) for n in (1, 64))
    assert many < 0.9 * few


@pytest.mark.parametrize("length", [6, 101])
def test_a_clip_that_no_pack_can_hold_is_named(length: int) -> None:
    with pytest.raises(ValueError, match=f"clip 42 has {length} tokens; a pack takes 7 to 100"):
        Packer(BUDGET, smallest=7).add(42, length)


def test_a_packer_goes_on_where_its_state_was_taken() -> None:
    lengths = stream()
    first = Packer(BUDGET, smallest=7, open_packs=9)
    head = [p for i, n in enumerate(lengths[:1234]) for p in first.add(i, n)]
    second = Packer(BUDGET, smallest=7, open_packs=9)
    second.load_state_dict(first.state_dict())
    tail = [p for i, n in enumerate(lengths[1234:], 1234) for p in second.add(i, n)]
    assert head + tail + second.flush() == pack_all(lengths, open_packs=9)


def test_a_round_is_of_neighbours_in_cost_and_the_rest_waits() -> None:
    packs = pack_all(stream())
    rounds = deal(packs, ranks=8, width=4)
    assert len(rounds) == len(packs) // 8 and all(len(dealt) == 8 for dealt in rounds)
    costs = [pack.cost(4) for dealt in rounds for pack in dealt]
    assert costs == sorted(costs)
    undealt = [packs[i : i + 8] for i in range(0, len(packs) - 7, 8)]
    assert balance(rounds, 4) > 0.99 > 0.95 > balance(undealt, 4)


def test_the_cost_is_that_of_the_formula() -> None:
    """24 d² a token and 4 d for every pair of tokens of one clip, counted by hand for d = 2."""
    assert Pack((0, 1), (3, 5)).cost(2) == 24 * 4 * 8 + 4 * 2 * (9 + 25)
