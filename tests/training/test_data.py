"""Order and noise are pure functions of their keys."""

import torch

from training.data.cache import clip_seed
from training.data.sampler import draw
from training.noise import generator


def test_every_clip_comes_once_an_epoch_whatever_the_step_size() -> None:
    stream = torch.cat([draw(3, cursor, 7, size=21) for cursor in range(0, 42, 7)])
    assert sorted(stream[:21].tolist()) == sorted(stream[21:].tolist()) == list(range(21))
    assert stream[:21].tolist() != stream[21:].tolist(), "epochs are shuffled anew"
    assert torch.equal(stream, draw(3, 0, 42, size=21))
    assert not torch.equal(stream, draw(4, 0, 42, size=21))


def test_a_generator_depends_on_its_key_alone() -> None:
    first = torch.randn(5, generator=generator(1, "noise", 2))
    torch.randn(100)
    assert torch.equal(first, torch.randn(5, generator=generator(1, "noise", 2)))
    assert not torch.equal(first, torch.randn(5, generator=generator(1, "noise", 3)))


def test_families_come_in_the_shares_of_the_mix() -> None:
    """Of 4,000 clips, a share of 0.75 lies within 5 standard errors (0.034)."""
    picks = [clip_seed(i, {"drop": 3.0, "walk": 1.0})[0] for i in range(4000)]
    assert abs(picks.count("drop") / 4000 - 0.75) < 0.034
