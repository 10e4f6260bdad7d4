"""Two chains of small operations as one Triton kernel each on CUDA, and as torch writes them.

Shapes: N tokens in G runs that share a row of modulations, or G = 1 with an index; R rows.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

from model.layers import affine_norm, gated_sum
from model.rope import rotate, rotate_halves

HAS_TRITON = find_spec("triton") is not None


def add_norm(
    x: Tensor, update: Tensor | None, gate: Tensor | None, weight: Tensor | None,
    bias: Tensor | None, index: Tensor | None, eps: float, dtype: torch.dtype,
    in_place: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """x + gate · update, and its LayerNorm · weight + bias; both computed in fp32.

    Args:
        x: `(G, N/G, d)`.
        update: in the same shape; None: the sum is x itself.
        gate: `(R, d)` fp32; None: 1.
        weight, bias: `(R, d)` fp32, or `(1, d)` for all tokens; None: there is no norm.
        index: of each token's row, `(N,)`; None: run g has row g, or all have the only one.
        dtype: of the norm.
        in_place: whether the sum takes the place of x; without gradients alone.

    Returns:
        The sum, in the dtype of x, and the norm.
    """
    if weight is not None and bias is not None and _is_fused(x):
        from model.fused import add_norm

        return add_norm(x, update, gate, weight, bias, index, eps, dtype, in_place)
    if update is not None:
        x = gated_sum(x, update, gate, index, in_place)
    if weight is None or bias is None:
        return x, x.to(dtype)
    return x, affine_norm(x, weight, bias, index, eps).to(dtype)


def norm_rotate(
    x: Tensor, weight: Tensor, rotary: Tensor, eps: float, dtype: torch.dtype, halves: bool = False
) -> Tensor:
    """RMS-norm rows over all heads, then turn every head by its token's angles; fp32 within.

    Without gradients `x` may be overwritten.

    Args:
        x: `(N, K, d)`, K rows of each token, one after another; tokens any stride apart.
        weight: `(K, d)` fp32.
        rotary: cos and sin, `(N, head_dim/2, 2)`.
        dtype: of what is returned.
        halves: whether channel i of a head turns with channel i + head_dim/2; else neighbours do.

    Returns:
        `(N, K, heads, head_dim)`.
    """
    if _is_fused(x):
        from model.fused import norm_rotate

        return norm_rotate(x, weight, rotary, eps, dtype, halves)
    x = x.float()
    rms = (torch.linalg.vecdot(x, x) / x.shape[-1] + eps).rsqrt().unsqueeze(-1)
    x = x * rms * weight if torch.is_grad_enabled() else x.mul_(rms).mul_(weight)
    heads = x.flatten(1).unflatten(1, (-1, 2 * rotary.shape[1]))
    turned = (rotate_halves if halves else rotate)(heads, rotary)
    out: Tensor = turned.unflatten(1, (x.shape[1], -1)).to(dtype)
    return out


def _is_fused(x: Tensor) -> bool:
    return HAS_TRITON and x.is_cuda and not torch.compiler.is_compiling()
