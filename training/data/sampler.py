"""The order of the samples: what stands at each position of an endless stream."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from training.noise import generator


@dataclass(frozen=True)
class Sample:
    """One visit of a clip; all its randomness is keyed by its position, which comes once.

    Attributes:
        position: in the stream.
        clip: index of the clip in the data set, or of a slot of its epoch.
        image: whether a single frame of the clip is shown instead of the whole.
    """

    position: int
    clip: int
    image: bool


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    return torch.randperm(size, generator=generator(seed, "order", epoch))


def sample_at(seed: int, position: int, size: int, image_share: float) -> Sample:
    """Return the sample at a position: each clip comes once an epoch, in another order each.

    Args:
        seed: of the run.
        position: in the stream, from 0.
        size: clips in the data set, or slots of an epoch.
        image_share: probability of a single frame.
    """
    clip = int(_permutation(seed, position // size, size)[position % size])
    image = image_share > 0 and bool(
        torch.rand((), generator=generator(seed, "image", position)) < image_share
    )
    return Sample(position, clip, image)
