"""Every Triton kernel and its gradient are those of its eager twin, and of fp64 maths.

On CUDA as it is; elsewhere a process with TRITON_INTERPRET=1 computes with numpy what the kernel
says, once for all cases. Bound: 3e-6 of the largest value, some fp32 roundings of sums of up to 300
terms; where bf16 is stored, its step, 2^-7, since the interpreter cuts instead of rounding.
Gradients are of weighted sums of all that a kernel gives, by torch's own differentiation of the
twin in fp32 and in fp64.

Faults planted and seen: `first` in `_norm_rotate` turning the other way; in the gradients, the mean
left out, the turn not turned back, the sum's own gradient dropped.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from model import kernels
from model.layers import affine_norm, gated_sum
from model.rope import rotate, rotate_halves

Row = tuple[str, float, float]
EPS = 1e-3
"""Large, so that it counts."""
BOUND = 3e-6
STEPS = {torch.float32: BOUND, torch.bfloat16: 2**-7}
SHAPES = (
    (1, 7, 36, False, True), (3, 4, 60, False, True), (1, 9, 300, True, True),
    (1, 9, 300, True, False), (2, 3, 36, False, False),
)  # fmt: skip
"""Runs, tokens of each, width, whether rows are by index, and whether there is an update."""


def error(x: Tensor, truth: Tensor) -> float:
    return float((x.double() - truth.double()).abs().max() / truth.double().abs().max())


def twin(function: Callable[..., Any], *arguments: object) -> Any:
    """What the eager one gives, also where there is a GPU."""
    kernels.HAS_TRITON = False
    try:
        return function(*arguments)
    finally:
        kernels.HAS_TRITON = find_spec("triton") is not None


def operands(
    shape: tuple[int, int, int, bool, bool], dtype: torch.dtype, device: str
) -> tuple[dict[str, Tensor | None], Tensor | None]:
    """x, update, gate, weight and bias, and the index of rows."""
    runs, tokens, dim, indexed, updated = shape
    torch.manual_seed(0)
    x, update = torch.randn(2, runs, tokens, dim, device=device, dtype=dtype)
    count = 3 if indexed else runs
    six = torch.randn(count, 6, dim, device=device)  # rows a stride apart, as in a block
    gate, weight, bias = six.unbind(1)[:3]
    index = torch.arange(tokens, device=device) * 2 % 3 if indexed else None
    named = dict(x=x, update=update, gate=gate) if updated else dict(x=x, update=None, gate=None)
    return named | dict(weight=weight, bias=bias), index


def norm_cases(device: str) -> list[Row]:
    """Rows per run, rows by index, one row for all; with and without an update, and a gate."""
    import model.fused

    rows: list[Row] = []
    for dtype in STEPS:
        for shape in SHAPES:
            for ungated in (False, True) if shape[4] else (False,):
                values, index = operands(shape, dtype, device)
                if ungated:
                    values["gate"] = None
                told = (*values.values(), index, EPS, torch.float32)
                x: Any = values["x"]
                for name, (total, normed) in (
                    ("twin", twin(kernels.add_norm, *told)),
                    ("kernel", model.fused.add_norm(*told, in_place=False)),
                    ("kernel in place", model.fused.add_norm(x.clone(), *told[1:], in_place=True)),
                ):
                    wide = {k: None if v is None else v.double() for k, v in values.items()}
                    stored = total.double()  # the norm is of what is stored
                    truth, summed = exact_norm(wide, index, stored)
                    label = f"{name} {dtype} {shape} ungated={ungated}"
                    rows.append((f"norm {label}", error(normed, truth), BOUND))
                    rows.append((f"sum {label}", error(total, summed), STEPS[dtype]))
    return rows


def exact_norm(
    wide: dict[str, Any], index: Tensor | None, stored: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The norm, of the sum or of what was stored of it, and the sum, written out."""
    spread = {
        k: v[:, None] if index is None or len(v) == 1 else v[index][None]
        for k, v in wide.items()
        if k in ("gate", "weight", "bias") and v is not None
    }
    summed = wide["x"]
    if wide["update"] is not None:
        summed = summed + spread.get("gate", 1.0) * wide["update"]
    of = summed if stored is None else stored
    centred = of - of.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + EPS).sqrt()
    return normed * spread["weight"] + spread["bias"], summed


def norm_gradients(device: str) -> list[Row]:
    """Of all operands, in fp32: by the kernel, by the twin, and of the maths in fp64."""
    import model.fused

    rows: list[Row] = []
    shared = [(SHAPES[n], True) for n in (1, 2)]  # a norm's only row for all, as that of text
    for shape, single in [(shape, False) for shape in SHAPES] + shared:
        values, index = operands(shape, torch.float32, device)
        if single:
            values |= {k: values[k][:1] for k in ("weight", "bias")}  # type: ignore[index]
        names = [k for k, v in values.items() if v is not None]
        pull = torch.randn(2, *values["x"].shape, device=device)  # type: ignore[union-attr]

        def told(
            way: Callable[..., Any], dtype: torch.dtype, values: Any = values, pull: Any = pull,
            names: Any = names,
        ) -> list[Tensor]:  # fmt: skip
            leaves = {
                k: None if v is None else v.detach().to(dtype, copy=True).requires_grad_()
                for k, v in values.items()
            }
            total, normed = way(leaves)
            (total * pull[0] + normed * pull[1]).sum().backward()
            return [leaves[k].grad for k in names]

        def of_kernel(leaves: Any, index: Any = index) -> Any:
            return model.fused.add_norm(*leaves.values(), index, EPS, torch.float32, False)

        def of_twin(leaves: Any, index: Any = index) -> Any:
            return twin(kernels.add_norm, *leaves.values(), index, EPS, torch.float32)

        def of_maths(leaves: Any, index: Any = index) -> Any:
            return exact_norm(leaves, index)[::-1]

        truth = told(of_maths, torch.float64)
        for name, way in (("kernel", of_kernel), ("twin", of_twin)):
            found = told(way, torch.float32)
            for of, mine, theirs in zip(names, found, truth, strict=True):
                rows.append((f"gradient of {of}, {name} {shape}", error(mine, theirs), BOUND))
    return rows


def exact_rotate(x: Tensor, weight: Tensor, rotary: Tensor, halves: bool) -> Tensor:
    """The rows normed and turned, written out with complex numbers."""
    heads = (x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight).unflatten(
        2, (-1, 2 * rotary.shape[1])
    )
    a, b = heads.chunk(2, -1) if halves else heads.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.complex(a, b) * torch.view_as_complex(rotary)[:, None, None]
    if halves:
        return torch.cat([turned.real, turned.imag], dim=-1)
    return torch.view_as_real(turned).flatten(-2)


def rotate_cases(device: str) -> list[Row]:
    """Two rows of three, as queries and keys are of what one product gives; and gradients."""
    import model.fused

    rows: list[Row] = []
    for dtype in STEPS:
        for tokens, heads, half in ((5, 3, 10), (7, 1, 3), (4, 2, 64)):
            for halves in (False, True):
                torch.manual_seed(0)
                dim = 2 * heads * half
                x = torch.randn(tokens, 3, dim, device=device, dtype=dtype)
                weight = torch.randn(2, dim, device=device)
                angle = torch.randn(tokens, half, device=device)
                rotary = torch.stack([angle.cos(), angle.sin()], dim=-1)
                pull = torch.randn(tokens, 2, heads, 2 * half, device=device)
                told = (rotary, EPS, torch.float32, halves)

                def by(way: Callable[..., Tensor], x: Tensor, weight: Tensor, pull: Any) -> Any:
                    x, weight = (v.detach().clone().requires_grad_() for v in (x, weight))
                    out = way(x[:, :2], weight)
                    (out * pull).sum().backward()
                    assert x.grad is not None and weight.grad is not None
                    return out.detach(), x.grad[:, :2], weight.grad

                wide = (v.double() for v in (x, weight, pull))
                truth = by(
                    lambda x, w, t=rotary, h=halves: exact_rotate(x, w, t.double(), h), *wide
                )
                for name, way in (
                    ("kernel", lambda x, w, t=told: model.fused.norm_rotate(x, w, *t)),
                    ("twin", lambda x, w, t=told: twin(kernels.norm_rotate, x, w, *t)),
                ):
                    label = f"{name} {dtype} {tokens}x{heads}x{half} halves={halves}"
                    bounds = BOUND, STEPS[dtype], BOUND
                    of = "rotate", "gradient of x, rotate", "gradient of weight, rotate"
                    for what, a, b, bound in zip(
                        of, by(way, x, weight, pull), truth, bounds, strict=True
                    ):
                        rows.append((f"{what} {label}", error(a, b), bound))
    return rows


def all_cases(device: str) -> list[Row]:
    return norm_cases(device) + norm_gradients(device) + rotate_cases(device)


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_kernels_are_their_twins_and_fp64_maths() -> None:
    if torch.cuda.is_available():
        rows = all_cases("cuda")
    else:
        run = subprocess.run(
            [sys.executable, "-W", "error", __file__],
            env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        rows = json.loads(run.stdout)
    assert len(rows) == 230
    assert [row for row in rows if not row[1] <= row[2]] == []


@torch.no_grad()
def test_a_sum_in_place_is_the_sum() -> None:
    """Bit by bit in fp32; with rows by index, with one row for all, and without a gate."""
    for shape in SHAPES[:3]:
        values, index = operands(shape, torch.float32, "cpu")
        x, update, gate = values["x"], values["update"], values["gate"]
        assert x is not None and update is not None
        for row in (gate, None):
            summed, target = gated_sum(x, update, row, index), x.clone()
            assert gated_sum(target, update, row, index, in_place=True) is target
            assert torch.equal(target, summed) and not torch.equal(summed, x)


def test_a_norm_without_rows_to_choose_from_is_the_one_with_them() -> None:
    """One row for all tokens goes by another way than rows by index; fp32 rounding apart."""
    torch.manual_seed(0)
    x, (weight, bias) = torch.randn(1, 9, 40), torch.randn(2, 1, 40)
    index = torch.zeros(9, dtype=torch.long)
    rows = (torch.cat([row, torch.randn_like(row)]) for row in (weight, bias))
    assert error(affine_norm(x, *rows, index, EPS), affine_norm(x, weight, bias, None, EPS)) <= 1e-6


def test_halves_turn_as_neighbours_do() -> None:
    torch.manual_seed(0)
    x, angle = torch.randn(5, 3, 8), torch.randn(5, 4)
    table = torch.stack([angle.cos(), angle.sin()], dim=-1)
    apart = torch.cat([x[..., ::2], x[..., 1::2]], dim=-1)
    turned = rotate(x, table)
    expected = torch.cat([turned[..., ::2], turned[..., 1::2]], dim=-1)
    assert error(rotate_halves(apart, table), expected) <= 1e-6


if __name__ == "__main__":
    print(json.dumps(all_cases("cpu")))
