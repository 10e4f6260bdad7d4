"""The chains of `model.kernels` as Triton kernels: a program a token, its row of d in registers.

Gradients of what tokens share are sums over them, made by torch in a fixed order.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.layers import spread


@triton.jit
def _add_norm(
    x, update, gate, weight, bias, index, total, out, dim, run, eps,
    gate_stride, weight_stride, bias_stride,
    HAS_UPDATE: tl.constexpr, HAS_GATE: tl.constexpr, HAS_INDEX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    row = tl.load(index + token) if HAS_INDEX else token // run
    column = tl.arange(0, BLOCK)
    inside = column < dim
    here = token * dim + column
    value = tl.load(x + here, mask=inside, other=0.0).to(tl.float32)
    if HAS_UPDATE:
        change = tl.load(update + here, mask=inside, other=0.0).to(tl.float32)
        if HAS_GATE:
            change *= tl.load(gate + row * gate_stride + column, mask=inside, other=0.0)
        value = (value + change).to(x.dtype.element_ty)  # the norm sees what is stored
        tl.store(total + here, value, mask=inside)
        value = value.to(tl.float32)
    centred = tl.where(inside, value - tl.sum(value, 0) / dim, 0.0)
    normed = centred * tl.rsqrt(tl.sum(centred * centred, 0) / dim + eps)
    scale = tl.load(weight + row * weight_stride + column, mask=inside, other=0.0)
    shift = tl.load(bias + row * bias_stride + column, mask=inside, other=0.0)
    tl.store(out + here, (normed * scale + shift).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_backward(
    total, grad, grad_total, weight, index, out, product, dim, run, eps, weight_stride,
    HAS_TOTAL: tl.constexpr, HAS_INDEX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of what was normed and, for the weight's, each token's grad · normed."""
    token = tl.program_id(0).to(tl.int64)
    row = tl.load(index + token) if HAS_INDEX else token // run
    column = tl.arange(0, BLOCK)
    inside = column < dim
    here = token * dim + column
    value = tl.load(total + here, mask=inside, other=0.0).to(tl.float32)
    centred = tl.where(inside, value - tl.sum(value, 0) / dim, 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, 0) / dim + eps)
    normed = centred * scale
    change = tl.load(grad + here, mask=inside, other=0.0).to(tl.float32)
    tl.store(product + here, change * normed, mask=inside)
    change *= tl.load(weight + row * weight_stride + column, mask=inside, other=0.0)
    change -= tl.sum(change, 0) / dim + normed * (tl.sum(change * normed, 0) / dim)
    change *= scale
    if HAS_TOTAL:
        change += tl.load(grad_total + here, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + here, change.to(out.dtype.element_ty), mask=inside)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, update: Tensor | None, gate: Tensor | None, weight: Tensor,
        bias: Tensor, index: Tensor | None, eps: float, dtype: torch.dtype, in_place: bool,
    ) -> Any:  # fmt: skip
        dim, count = x.shape[-1], x.numel() // x.shape[-1]
        total = x if update is None or in_place else torch.empty_like(x)
        out = torch.empty_like(x, dtype=dtype)
        _add_norm[(count,)](
            x, x if update is None else update, weight if gate is None else gate, weight, bias,
            x if index is None else index, total, out, dim,
            count // len(weight if gate is None else gate), eps,
            _stride(weight if gate is None else gate), _stride(weight), _stride(bias),
            HAS_UPDATE=update is not None, HAS_GATE=gate is not None, HAS_INDEX=index is not None,
            **_sizes(dim),
        )  # fmt: skip
        ctx.save_for_backward(total, update, gate, weight, index)
        ctx.eps = eps
        return out if update is None else (total, out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:
        total, update, gate, weight, index = ctx.saved_tensors
        *of_total, grad = grads
        assert grad is not None
        grad, behind = grad.contiguous(), of_total[0] if of_total else None
        dim, count = total.shape[-1], total.numel() // total.shape[-1]
        out, product = torch.empty_like(total), torch.empty_like(total, dtype=torch.float32)
        _norm_backward[(count,)](
            total, grad, total if behind is None else behind.contiguous(), weight,
            total if index is None else index, out, product, dim, count // len(weight), ctx.eps,
            _stride(weight), HAS_TOTAL=behind is not None, HAS_INDEX=index is not None,
            **_sizes(dim),
        )  # fmt: skip
        of_weight, of_bias = (_over_tokens(g, index, len(weight)) for g in (product, grad))
        of_update = of_gate = None
        if update is not None:
            of_update = (out if gate is None else out * spread(gate, index)).type_as(update)
        if gate is not None:
            of_gate = _over_tokens(out.float() * update, index, len(gate))
        return out, of_update, of_gate, of_weight, of_bias, None, None, None, None


def add_norm(
    x: Tensor, update: Tensor | None, gate: Tensor | None, weight: Tensor, bias: Tensor,
    index: Tensor | None, eps: float, dtype: torch.dtype, in_place: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `model.kernels.add_norm`; rows of x, update, gate, weight and bias are contiguous."""
    found = _AddNorm.apply(x, update, gate, weight, bias, index, eps, dtype, in_place)
    return (x, found) if update is None else found


@triton.jit
def _norm_rotate(
    x, weight, rotary, out, dim, x_stride, eps,
    HALF: tl.constexpr, HALVES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token, place = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, BLOCK)
    inside = column < dim
    step = HALF if HALVES else 1
    first = column // step % 2 == 0
    other = tl.where(first, column + step, column - step)  # what this channel turns with
    row, scale = x + token * x_stride + place * dim, weight + place * dim
    mine = tl.load(row + column, mask=inside, other=0.0).to(tl.float32)
    theirs = tl.load(row + other, mask=inside, other=0.0).to(tl.float32)
    rms = tl.rsqrt(tl.sum(mine * mine, 0) / dim + eps)
    mine *= rms * tl.load(scale + column, mask=inside, other=0.0)
    theirs *= rms * tl.load(scale + other, mask=inside, other=0.0)
    pair = column % HALF if HALVES else column % (2 * HALF) // 2
    angle = rotary + token * 2 * HALF + 2 * pair
    cos, sin = tl.load(angle, mask=inside, other=0.0), tl.load(angle + 1, mask=inside, other=0.0)
    turned = mine * cos + tl.where(first, -theirs, theirs) * sin
    target = out + (token * tl.num_programs(1) + place) * dim
    tl.store(target + column, turned.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_rotate_backward(
    x, grad, weight, rotary, out, product, dim, x_stride, eps,
    HALF: tl.constexpr, HALVES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradient of the rows and, for the weight's, each one's turned back grad · normed."""
    token, place = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, BLOCK)
    inside = column < dim
    step = HALF if HALVES else 1
    first = column // step % 2 == 0
    other = tl.where(first, column + step, column - step)
    here = (token * tl.num_programs(1) + place) * dim
    mine = tl.load(grad + here + column, mask=inside, other=0.0).to(tl.float32)
    theirs = tl.load(grad + here + other, mask=inside, other=0.0).to(tl.float32)
    pair = column % HALF if HALVES else column % (2 * HALF) // 2
    angle = rotary + token * 2 * HALF + 2 * pair
    cos, sin = tl.load(angle, mask=inside, other=0.0), tl.load(angle + 1, mask=inside, other=0.0)
    change = mine * cos + tl.where(first, theirs, -theirs) * sin
    value = tl.load(x + token * x_stride + place * dim + column, mask=inside, other=0.0)
    value = value.to(tl.float32)
    rms = tl.rsqrt(tl.sum(value * value, 0) / dim + eps)
    normed = value * rms
    tl.store(product + here + column, change * normed, mask=inside)
    change *= tl.load(weight + place * dim + column, mask=inside, other=0.0)
    change = rms * (change - normed * (tl.sum(change * normed, 0) / dim))
    tl.store(out + here + column, change.to(out.dtype.element_ty), mask=inside)


class _NormRotate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, rotary: Tensor, eps: float, dtype: torch.dtype,
        halves: bool,
    ) -> Tensor:  # fmt: skip
        count, rows, dim = x.shape
        half = rotary.shape[1]
        out = torch.empty(count, rows, dim // (2 * half), 2 * half, dtype=dtype, device=x.device)
        _norm_rotate[(count, rows)](
            x, weight, rotary, out, dim, x.stride(0), eps, HALF=half, HALVES=halves, **_sizes(dim)
        )
        ctx.save_for_backward(x, weight, rotary)
        ctx.eps, ctx.halves = eps, halves
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:
        x, weight, rotary = ctx.saved_tensors
        count, rows, dim = x.shape
        out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        product = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        _norm_rotate_backward[(count, rows)](
            x, grad.contiguous(), weight, rotary, out, product, dim, x.stride(0), ctx.eps,
            HALF=rotary.shape[1], HALVES=ctx.halves, **_sizes(dim),
        )  # fmt: skip
        return out, product.sum(0), None, None, None, None


def norm_rotate(
    x: Tensor, weight: Tensor, rotary: Tensor, eps: float, dtype: torch.dtype, halves: bool
) -> Tensor:
    """As `model.kernels.norm_rotate`; x is left as it is, weight and rotary are contiguous."""
    out: Tensor = _NormRotate.apply(x, weight, rotary, eps, dtype, halves)
    return out


def _sizes(dim: int) -> dict[str, int]:
    return {"BLOCK": triton.next_power_of_2(dim), "num_warps": 8 if dim > 2048 else 4}


def _stride(rows: Tensor) -> int:
    """From one row to the next; 0 where all tokens have the only one."""
    return rows.stride(0) if len(rows) > 1 else 0


def _over_tokens(values: Tensor, index: Tensor | None, rows: int) -> Tensor:
    """Values `(G, N/G, d)` summed over the tokens of each row, `(rows, d)` fp32."""
    if rows == 1:
        return values.sum((0, 1), dtype=torch.float32).unsqueeze(0)
    if index is None:
        return values.sum(1, dtype=torch.float32)
    sums = values.new_zeros(rows, values.shape[-1], dtype=torch.float32)
    return sums.index_add_(0, index, values.flatten(0, 1).float())
