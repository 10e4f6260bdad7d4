"""The order of the clips: a keyed permutation per epoch under one global cursor."""

from functools import lru_cache

import torch
from torch import Tensor

from training.noise import generator


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    return torch.randperm(size, generator=generator(seed, "order", epoch))


def draw(seed: int, cursor: int, count: int, size: int) -> Tensor:
    """Return the ids at positions `cursor … cursor + count - 1` of the endless shuffled stream.

    Args:
        seed: of the run.
        cursor: ids taken so far, over all processes.
        count: how many to take.
        size: clips in the data set.

    Returns:
        `(count,)`, each clip once per epoch.
    """
    positions = range(cursor, cursor + count)
    return torch.stack([_permutation(seed, p // size, size)[p % size] for p in positions])
