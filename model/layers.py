"""The layers that the transformer is made of: norms, feed-forward, and what embeds its inputs.

Shapes: d is the network's width, R the number of timestep rows, G runs of tokens that share a row:
R, or 1 where the tokens are indexed one by one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """x / rms(x) · weight in fp32 (Zhang & Sennrich, 2019), over all heads at once in Wan."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Rows `(..., d)` of any dtype to the same in fp32."""
        x = x.float()
        mean_square = torch.linalg.vecdot(x, x).unsqueeze(-1) / x.shape[-1]
        return x * torch.rsqrt(mean_square + self.eps) * self.weight.float()


class LayerNorm(nn.LayerNorm):
    """LayerNorm in fp32, whatever the weights are."""

    def forward(self, x: Tensor) -> Tensor:
        """Rows `(..., d)` to the same, in their dtype."""
        weight, bias = self.weight.float(), self.bias.float()
        return F.layer_norm(x.float(), self.normalized_shape, weight, bias, self.eps).type_as(x)


def spread(row: Tensor, index: Tensor | None) -> Tensor:
    """Rows `(R, d)` so that they broadcast over tokens `(G, N/G, d)`.

    Without an index that is a view; with one, a gather of one row a token, made at each use and
    never for all six modulations together. On a CPU its gradient is summed in the order of the
    tokens: that of `row[index]` is summed by threads in whatever order they come, so that a run
    that went on from a state would not always be the one that was never stopped.
    """
    return row.unsqueeze(1) if index is None else row.index_select(0, index).unsqueeze(0)


def affine_norm(
    x: Tensor, weight: Tensor, bias: Tensor, index: Tensor | None, eps: float
) -> Tensor:
    """LayerNorm(x) · weight + bias in fp32; `x (G, N/G, d)`, weight and bias `(R, d)`."""
    dim = x.shape[-1:]
    if len(weight) == 1:  # one row for all: the norm's own affine map
        return F.layer_norm(x.float(), dim, weight[0], bias[0], eps)
    normed = F.layer_norm(x.float(), dim, eps=eps)
    return torch.addcmul(spread(bias, index), normed, spread(weight, index))


def gated_sum(
    x: Tensor, update: Tensor, gate: Tensor | None, index: Tensor | None, in_place: bool = False
) -> Tensor:
    """x + gate · update, summed in fp32; `x`, `update (G, N/G, d)`, gate `(R, d)`; None: 1.

    The sum may take the place of x where no gradient is wanted.
    """
    if in_place:
        return (
            x.add_(update) if gate is None else torch.addcmul(x, update, spread(gate, index), out=x)
        )
    wide, change = x.float(), update.float()
    total = wide + change if gate is None else torch.addcmul(wide, change, spread(gate, index))
    return total.type_as(x)


class GELU(nn.Module):
    """Linear, then GELU (Hendrycks & Gimpel, 2016), exact or by its tanh form."""

    def __init__(self, dim_in: int, dim_out: int, approximate: str) -> None:
        super().__init__()
        self.proj = nn.Linear(dim_in, dim_out)
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim_in)` to `(..., dim_out)`."""
        return F.gelu(self.proj(x), approximate=self.approximate)


class FeedForward(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden: int, out: int, approximate: str = "tanh") -> None:
        super().__init__()
        self.net = nn.Sequential(
            GELU(dim, hidden, approximate), nn.Identity(), nn.Linear(hidden, out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim)` to `(..., out)`."""
        out: Tensor = self.net(x)
        return out


class PatchEmbedding(nn.Conv3d):
    """A convolution whose stride is its kernel: one linear map of a patch, stored as Wan does."""

    def __init__(self, channels: int, dim: int, patch_size: Sequence[int]) -> None:
        pt, ph, pw = patch_size
        super().__init__(channels, dim, kernel_size=(pt, ph, pw), stride=(pt, ph, pw))

    def forward(self, patches: Tensor) -> Tensor:
        """Patches `(N, C·pt·ph·pw)`, channels first within one, to tokens `(N, d)`."""
        return F.linear(patches, self.weight.flatten(1), self.bias)


class TimestepEmbedding(nn.Module):
    """Sinusoid, Linear, SiLU, Linear, all in fp32 where the weights are."""

    def __init__(self, freq_dim: int, dim: int) -> None:
        super().__init__()
        self.freq_dim = freq_dim
        self.linear_1 = nn.Linear(freq_dim, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, timesteps: Tensor) -> Tensor:
        """Timesteps `(R,)`, 0..1000, to `(R, d)`."""
        kind = timesteps.device.type  # meta, on which memory is estimated, has no autocast
        with nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False):
            wave = sinusoid(timesteps, self.freq_dim).to(self.linear_1.weight.dtype)
            out: Tensor = self.linear_2(F.silu(self.linear_1(wave)))
        return out


def sinusoid(timesteps: Tensor, dim: int) -> Tensor:
    """[cos(t·f), sin(t·f)], f from 1 down to 1e-4 in geometric steps; `(R,)` to `(R, dim)` fp32."""
    steps = torch.arange(dim // 2, dtype=torch.float32, device=timesteps.device)
    frequency = torch.exp(-math.log(10_000) * steps / (dim // 2))
    angle = timesteps.float()[:, None] * frequency
    return F.pad(torch.cat((angle.cos(), angle.sin()), dim=-1), (0, dim % 2))


class TextProjection(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(text_dim, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Text rows `(M, text_dim)` to context rows `(M, d)`."""
        out: Tensor = self.linear_2(F.gelu(self.linear_1(x), approximate="tanh"))
        return out


class ImageProjection(nn.Module):
    """CLIP tokens to context tokens; a learned position is added where two images are given."""

    def __init__(self, image_dim: int, dim: int, pos_embed_seq_len: int | None) -> None:
        super().__init__()
        self.norm1 = LayerNorm(image_dim)
        self.ff = FeedForward(image_dim, image_dim, dim, approximate="none")
        self.norm2 = LayerNorm(dim)
        self.pos_embed: nn.Parameter | None = None
        if pos_embed_seq_len is not None:
            self.pos_embed = nn.Parameter(torch.zeros(1, pos_embed_seq_len, image_dim))

    def forward(self, x: Tensor) -> Tensor:
        """`(S, image_dim)` to `(S, d)`; a learned position needs S in runs of its length."""
        if self.pos_embed is not None:
            x = (x.unflatten(0, (-1, self.pos_embed.shape[1])) + self.pos_embed).flatten(0, 1)
        out: Tensor = self.norm2(self.ff(self.norm1(x)))
        return out


class ConditionEmbedding(nn.Module):
    """Timesteps, text and image tokens, each into the width of the network."""

    def __init__(
        self,
        dim: int,
        freq_dim: int,
        text_dim: int,
        image_dim: int | None,
        pos_embed_seq_len: int | None,
    ) -> None:
        super().__init__()
        self.time_embedder = TimestepEmbedding(freq_dim, dim)
        self.time_proj = nn.Linear(dim, 6 * dim)
        self.text_embedder = TextProjection(text_dim, dim)
        self.image_embedder: ImageProjection | None = None
        if image_dim is not None:
            self.image_embedder = ImageProjection(image_dim, dim, pos_embed_seq_len)

    def embed_time(self, timesteps: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Timesteps `(R,)` to time `(R, d)` and its six modulations `(R, 6, d)`."""
        temb = self.time_embedder(timesteps).to(dtype)
        return temb, self.time_proj(F.silu(temb)).unflatten(1, (6, -1))

    def embed_context(self, text: Tensor, image: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Text `(M, text_dim)` and image tokens `(S, image_dim)` to the width of the network."""
        if image is not None:
            if self.image_embedder is None:
                raise ValueError("image tokens were given, but this model's image_dim is None")
            image = self.image_embedder(image)
        return self.text_embedder(text), image
