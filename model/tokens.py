"""Tokens: latent patches, where and when they are, and which clip they belong to.

A token is one latent patch with a timestep row, a position (τ, y, x), a segment and, in training,
a loss weight. Clips of any size and duration lie one after another along a single axis of N
tokens; a segment is the run of tokens of one clip, and attention never crosses its border.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

PatchSize = Sequence[int]


@dataclass(frozen=True)
class Segments:
    """The lengths of segments that lie one after another; plain integers, so nothing synchronises.

    Attributes:
        common_length: the length that all segments share, or None where they differ.

    Raises:
        ValueError: a length is negative.
    """

    lengths: tuple[int, ...]
    common_length: int | None = field(init=False)

    def __post_init__(self) -> None:
        if any(length < 0 for length in self.lengths):
            raise ValueError(f"segment lengths are {self.lengths}; each must be 0 or more")
        # Not a property: compiled code that asks for it must not depend on every single length.
        common = self.lengths[0] if len(set(self.lengths)) == 1 else None
        object.__setattr__(self, "common_length", common)

    @classmethod
    def even(cls, count: int, length: int) -> Segments:
        """`count` segments of `length` rows each."""
        return cls((length,) * count)

    @property
    def total(self) -> int:
        """The rows of all segments."""
        return sum(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def check(self, name: str, rows: int) -> None:
        """Raise ValueError unless the segments of `name` sum to its number of rows."""
        if self.total != rows:
            raise ValueError(f"{name} has {rows} rows, but its segments sum to {self.total}")


@dataclass(frozen=True)
class Tokens:
    """N packed tokens.

    Attributes:
        patches: latent patches, `(N, C·pt·ph·pw)`.
        coords: positions (τ, y, x) in patches, floats, `(N, 3)`.
        timesteps: the different timesteps in use, `(R,)`, in 0..1000.
        timestep_index: the row of `timesteps` of each token, `(N,)` integers; None says that the
            tokens fall into R runs of equal length, run r at `timesteps[r]`, which needs no gather.
        segments: the lengths of the clips, in sum N.
        loss_weight: the weight of each token in the loss, `(N,)`; None weighs all alike.
        reference: `(N,)`, true for tokens that are no part of a clip but shown beside it; None says
            that there are none.

    Raises:
        ValueError: a column is not N long, or N tokens do not fall into R equal runs.
    """

    patches: Tensor
    coords: Tensor
    timesteps: Tensor
    segments: Segments
    timestep_index: Tensor | None = None
    loss_weight: Tensor | None = None
    reference: Tensor | None = None

    def __post_init__(self) -> None:
        count, rows = len(self.patches), len(self.timesteps)
        self.segments.check("patches", count)
        for name in ("coords", "timestep_index", "loss_weight", "reference"):
            column = getattr(self, name)
            if column is not None and len(column) != count:
                raise ValueError(f"{name} has {len(column)} rows, but patches has {count}")
        if self.timestep_index is None and (rows == 0 or count % rows):
            raise ValueError(
                f"{count} tokens do not fall into {rows} runs of equal length; "
                "give timestep_index to say which row each token has"
            )

    def to(self, device: torch.device) -> Tokens:
        """The same tokens on a device."""
        moved = {
            name: column.to(device)
            for name in ("patches", "coords", "timesteps", "timestep_index", "loss_weight",
                         "reference")
            if (column := getattr(self, name)) is not None
        }  # fmt: skip
        return replace(self, **moved)

    @classmethod
    def from_latents(cls, latents: Tensor, timestep: Tensor, patch_size: PatchSize) -> Tokens:
        """The tokens of a batch of clips of one size, frame k at τ = k, y and x counted in patches.

        Args:
            latents: `(B, C, T, H, W)`.
            timestep: one per clip `(B,)`, one for all `(1,)`, or one per token `(B, n)`.
            patch_size: (pt, ph, pw).

        Raises:
            ValueError: `timestep` has another shape.
        """
        batch = latents.shape[0]
        coords = grid(patch_counts(latents.shape[2:], patch_size), latents.device)
        n, index = len(coords), None
        if timestep.ndim == 2 and timestep.shape[0] in (1, batch) and timestep.shape[1] == n:
            timestep, index = torch.unique(timestep.expand(batch, n), return_inverse=True)
            index = index.flatten() if len(timestep) > 1 else None
        elif timestep.ndim != 1 or len(timestep) not in (1, batch):
            raise ValueError(
                f"timestep has shape {tuple(timestep.shape)}; "
                f"({batch},) or ({batch}, {n}) is needed for {batch} clips of {n} tokens"
            )
        return cls(
            patches=patchify(latents, patch_size),
            coords=coords.repeat(batch, 1),
            timesteps=timestep,
            segments=Segments.even(batch, n),
            timestep_index=index,
        )


def patch_counts(size: Sequence[int], patch_size: PatchSize) -> tuple[int, int, int]:
    """The patches of latents of `size` (T, H, W) along each axis.

    A remainder that fills no patch is left out, as by the strided convolution that Wan uses.
    """
    t, h, w = (n // p for n, p in zip(size, patch_size, strict=True))
    return t, h, w


def grid(counts: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Positions (τ, y, x) of a clip of that many patches along each axis, `(n, 3)`."""
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in counts]
    return torch.stack(torch.meshgrid(axes, indexing="ij"), dim=-1).flatten(0, 2)


def still_position(frame: int, frames_per_latent: int) -> float:
    """Where in τ a pixel frame lies that is encoded alone.

    A causal autoencoder puts frame 0 at τ = 0 and the `s` frames before and at s·k at τ = k, so
    the centre of those, s·k - (s - 1) / 2, is at k.
    """
    return (frame + (frames_per_latent - 1) / 2) / frames_per_latent if frame else 0.0


def patchify(latents: Tensor, patch_size: PatchSize) -> Tensor:
    """Cut latents `(B, C, T, H, W)` into patches `(B·n, C·pt·ph·pw)`, channels first within one."""
    pt, ph, pw = patch_size
    t, h, w = patch_counts(latents.shape[2:], patch_size)
    x: Tensor = latents[:, :, : t * pt, : h * ph, : w * pw]
    x = x.unflatten(4, (w, pw)).unflatten(3, (h, ph)).unflatten(2, (t, pt))
    return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(0, 3)


def unpatchify(patches: Tensor, counts: Sequence[int], patch_size: PatchSize) -> Tensor:
    """Put what the head wrote, `(B·n, pt·ph·pw·C)`, channels *last*, together as latents.

    Args:
        counts: the patches of a clip along each axis, in product n.

    Returns:
        Latents `(B, C, T, H, W)`.
    """
    pt, ph, pw = patch_size
    x: Tensor = patches.unflatten(0, (-1, *counts)).unflatten(4, (pt, ph, pw, -1))
    return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def pack(parts: Sequence[Tokens]) -> Tokens:
    """Lay the tokens of several parts one after another; every part keeps its own segments."""
    timesteps = torch.cat([part.timesteps for part in parts])
    return Tokens(
        patches=torch.cat([part.patches for part in parts]),
        coords=torch.cat([part.coords for part in parts]),
        timesteps=timesteps,
        segments=Segments(tuple(n for part in parts for n in part.segments.lengths)),
        timestep_index=_pack_index(parts),
        loss_weight=_pack_column(parts, "loss_weight", torch.ones),
        reference=_pack_column(parts, "reference", partial(torch.zeros, dtype=torch.bool)),
    )


def beside(clip: Tokens, shown: Tokens) -> Tokens:
    """One segment: the tokens of a clip and, behind them, those that are shown beside it."""
    both = pack([clip, shown])
    return replace(both, segments=Segments((both.segments.total,)))


def _pack_index(parts: Sequence[Tokens]) -> Tensor | None:
    runs = {len(part.patches) / len(part.timesteps) for part in parts}
    if len(runs) == 1 and all(part.timestep_index is None for part in parts):
        return None
    indices, offset = [], 0
    for part in parts:
        rows, index = len(part.timesteps), part.timestep_index
        if index is None:
            index = torch.arange(rows, device=part.patches.device)
            index = index.repeat_interleave(len(part.patches) // rows)
        indices.append(index + offset)
        offset += rows
    return torch.cat(indices)


def _pack_column(
    parts: Sequence[Tokens], name: str, default: Callable[..., Tensor]
) -> Tensor | None:
    columns = [getattr(part, name) for part in parts]
    if all(column is None for column in columns):
        return None
    return torch.cat(
        [
            default(len(part.coords), device=part.coords.device) if column is None else column
            for part, column in zip(parts, columns, strict=True)
        ]
    )
