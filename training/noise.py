"""Randomness as a pure function of its key, never of how many draws came before.

That alone makes a resumed run bit-equal and any number of processes comparable.
"""

import hashlib

import torch


def generator(*key: int | str) -> torch.Generator:
    """Return a CPU generator seeded by the key, e.g. `(seed, "noise", step, sample)`."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
