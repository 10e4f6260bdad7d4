"""Which kernel attends, and that each is asked the right thing.

The kernels themselves need CUDA and are skipped by name without it. What can be told without: the
offsets and masks that they are given, by maths in fp64 that reads nothing else.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import model.backends
from model.attention import attend
from model.backends import INSTALLED, KERNELS, NAMES, Problem, choose
from model.tokens import Segments
from tests.model.test_attention import exact, random_qkv

Lengths = tuple[int, ...]
RAGGED: list[tuple[Lengths, Lengths]] = [
    ((5, 1, 12), (5, 1, 12)),
    ((1, 9, 4), (3, 1, 8)),
    ((4, 4), (1, 6)),
    ((7, 7), (7, 7)),
]
ALL = frozenset(NAMES)
LONG, EVEN = (4000, 2000), (4000, 4000)


def problem(
    q: Lengths, kv: Lengths | None = None, device: str = "cuda", dtype: Any = torch.bfloat16,
    head_dim: int = 128, hopper: bool = True, gradients: bool = False,
) -> Problem:  # fmt: skip
    segments = Segments(q), Segments(kv or q)
    return Problem(device, hopper, dtype, head_dim, gradients, *segments)


@pytest.mark.parametrize(
    ("asked", "absent", "name"),
    [
        (problem((4, 4), (2, 2), device="cpu"), (), "sdpa"),
        (problem((4, 4), (2, 3), device="cpu"), (), "sdpa per run"),
        (problem((4, 5), (2, 2), device="cpu"), (), "sdpa per run"),
        (problem(EVEN), (), "fa3"),
        (problem(EVEN), ("fa3",), "sdpa"),
        (problem(EVEN, hopper=False), (), "sdpa"),
        (problem(EVEN, dtype=torch.float32), (), "sdpa"),
        (problem((900, 40, 7)), (), "xformers"),
        (problem((900, 40, 7)), ("xformers",), "varlen"),
        (problem((900, 40, 7)), ("xformers", "varlen"), "sdpa per run"),
        (problem(LONG), (), "sdpa per run"),
        (problem((900, 40, 7), dtype=torch.float32), (), "sdpa per run"),
        (problem((900, 40, 7), head_dim=12), (), "sdpa per run"),
        (problem((900, 40), (512, 0)), (), "sdpa per run"),
        (problem((900, 40), (512, 300)), (), "xformers"),
    ],
)
def test_the_table(asked: Problem, absent: Lengths, name: str) -> None:
    assert choose(asked, None, ALL - set(absent)) == name


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({}, "chunked"),
        ({"exact": True}, "sdpa"),
        ({"dtype": torch.float32}, "sdpa"),
        ({"gradients": True}, "sdpa"),
        ({"device": "cuda"}, "fa3"),
        ({"kv_segments": Segments((200, 200))}, "sdpa"),
        ({"kv_segments": Segments((300, 500))}, "chunked"),
    ],
)
def test_chunks_are_for_many_bf16_keys_on_a_cpu(change: dict[str, Any], name: str) -> None:
    asked = replace(problem(EVEN, device="cpu"), **{"exact": False} | change)
    assert choose(asked, None, ALL) == name


@pytest.mark.parametrize(
    ("forced", "asked", "message"),
    [
        ("flash", problem(EVEN), "KINETOGRAPH_ATTENTION is 'flash'; allowed: sdpa, sdpa per run"),
        ("fa3", problem(EVEN), "'fa3', which is not installed"),
        ("varlen", problem(EVEN, device="cpu"), "'varlen', which needs a CUDA device"),
        ("varlen", problem(EVEN, dtype=torch.float32), "'varlen', which needs bf16 or fp16"),
        ("varlen", problem(EVEN, head_dim=12), "'varlen', which needs heads of a multiple of 8"),
        ("varlen", problem((4, 4), (4, 0)), "'varlen', which needs keys in every segment"),
        ("sdpa", problem(LONG), "'sdpa', which needs segments of one length"),
        ("sage", problem(EVEN, gradients=True), "'sage', which needs no gradients"),
        ("chunked", problem(EVEN), "'chunked', which needs a CPU"),
    ],
)
def test_what_is_forced_and_cannot_be_is_an_error(
    forced: str, asked: Problem, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose(asked, forced, ALL - {"fa3"})


def test_what_is_forced_is_taken_but_where_memory_is_estimated() -> None:
    assert choose(problem(EVEN), "varlen", ALL) == "varlen"
    assert choose(problem(EVEN), "sage", ALL) == "sage"
    assert choose(problem(EVEN, device="meta"), "varlen", ALL) == "sdpa"


def test_every_backend_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model.backends.tell.cache_clear()
    q, k, v = random_qkv((4, 6), (3, 5))
    with caplog.at_level("INFO", "kinetograph.attention"):
        for _ in range(3):
            attend(q, k, v, Segments((4, 6)), Segments((3, 5)))
            attend(q, k[:6], v[:6], Segments((5, 5)), Segments((3, 3)))
    assert caplog.messages == ["attention: sdpa per run", "attention: sdpa"]


@pytest.mark.parametrize(("q_lengths", "kv_lengths"), RAGGED)
def test_varlen_is_given_offsets_that_mean_the_segments(
    q_lengths: Lengths, kv_lengths: Lengths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of the kernel, fp64 maths by torch's own description of its arguments."""

    def maths(
        q: Tensor, k: Tensor, v: Tensor, q_ends: Tensor, k_ends: Tensor, *most: int
    ) -> Tensor:
        assert q_ends.dtype == k_ends.dtype == torch.int32
        lengths = [ends.diff().tolist() for ends in (q_ends, k_ends)]
        assert [max(found) for found in lengths] == list(most) and q_ends[0] == k_ends[0] == 0
        return exact(q, k, v, *map(tuple, lengths))

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", maths)
    q, k, v = random_qkv(q_lengths, kv_lengths)
    out = KERNELS["varlen"](q, k, v, Segments(q_lengths), Segments(kv_lengths))
    assert torch.equal(out, exact(q, k, v, q_lengths, kv_lengths))


@pytest.mark.skipif("xformers" not in INSTALLED, reason="xformers is not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("q_lengths", "kv_lengths"), RAGGED)
def test_the_mask_of_xformers_means_the_segments(q_lengths: Lengths, kv_lengths: Lengths) -> None:
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    q, k, v = (x.double() for x in random_qkv(q_lengths, kv_lengths))
    mask = BlockDiagonalMask.from_seqlens(list(q_lengths), list(kv_lengths))
    bias = mask.materialize((len(q), len(k)), dtype=torch.float64)
    scores = torch.einsum("nhd,mhd->hnm", q, k) / math.sqrt(q.shape[-1]) + bias
    out = torch.einsum("hnm,mhd->nhd", scores.softmax(-1), v)
    torch.testing.assert_close(out, exact(q, k, v, q_lengths, kv_lengths), rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="kernels need CUDA")
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(("q_lengths", "kv_lengths"), RAGGED)
def test_a_kernel_equals_fp64_maths(name: str, q_lengths: Lengths, kv_lengths: Lengths) -> None:
    """Half a bf16 step, 2^-9, on inputs, weights and output; Sage's eight bits are 2^-8 apart."""
    torch.manual_seed(0)
    n, m = sum(q_lengths), sum(kv_lengths)
    q, k, v = (torch.randn(rows, 3, 64, device="cuda").bfloat16() for rows in (n, m, m))
    segments = Segments(q_lengths), Segments(kv_lengths)
    asked = Problem("cuda", True, torch.bfloat16, 64, False, *segments)
    if name not in INSTALLED or model.backends.misfit(name, asked):
        pytest.skip(f"{name} is not installed or not for these segments")
    out = KERNELS[name](q, k, v, *segments)
    truth = exact(q, k, v, q_lengths, kv_lengths)
    error = float((out.double() - truth).norm() / truth.norm())
    assert error <= (2e-2 if name == "sage" else 1e-2)
