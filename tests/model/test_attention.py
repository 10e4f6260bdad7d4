"""Attention within segments equals softmax(q kᵀ/√d) v written out in fp64."""

import math

import pytest
import torch
from torch import Tensor

from model.attention import attend, attend_counted, backend
from model.tokens import Segments

Lengths = tuple[int, ...]
CASES: list[tuple[Lengths, Lengths]] = [
    ((7, 7), (7, 7)),
    ((6, 6, 6), (2, 2, 2)),
    ((5, 1, 12), (5, 1, 12)),
    ((1, 9, 4), (3, 1, 8)),
    ((4, 4), (1, 6)),
    ((4, 4, 3, 3, 4), (2, 2, 2, 2, 2)),
    ((11,), (3,)),
]


def exact(q: Tensor, k: Tensor, v: Tensor, q_lengths: Lengths, kv_lengths: Lengths) -> Tensor:
    q, k, v = q.double(), k.double(), v.double()
    parts = zip(q.split(q_lengths), k.split(kv_lengths), v.split(kv_lengths), strict=True)
    out = []
    for a, b, c in parts:
        scores = torch.einsum("nhd,mhd->hnm", a, b) / math.sqrt(q.shape[-1])
        out.append(torch.einsum("hnm,mhd->nhd", scores.softmax(-1), c))
    return torch.cat(out)


def random_qkv(q_lengths: Lengths, kv_lengths: Lengths) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    n, m = sum(q_lengths), sum(kv_lengths)
    return 2 * torch.randn(n, 3, 20), 2 * torch.randn(m, 3, 20), torch.randn(m, 3, 20)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [
        (torch.float32, 1e-6),  # fp32 rounding, 6e-8, over sums of a dozen terms
        (torch.float64, 1e-14),
        (torch.bfloat16, 4e-3),  # half a bf16 step, 2^-9, on the output; inputs are rounded before
    ],
)
@pytest.mark.parametrize(("q_lengths", "kv_lengths"), CASES)
def test_equals_fp64_maths(
    q_lengths: Lengths, kv_lengths: Lengths, dtype: torch.dtype, tolerance: float
) -> None:
    q, k, v = (x.to(dtype) for x in random_qkv(q_lengths, kv_lengths))
    out = attend(q, k, v, Segments(q_lengths), Segments(kv_lengths))
    truth = exact(q, k, v, q_lengths, kv_lengths)
    assert out.dtype == dtype and out.shape == q.shape
    assert (out - truth).norm() / truth.norm() <= tolerance


def test_maths_across_a_border_is_seen() -> None:
    """The comparison can fail: the same rows divided elsewhere are far away."""
    q, k, v = random_qkv((5, 1, 12), (5, 1, 12))
    out = attend(q, k, v, Segments((5, 1, 12)), Segments((5, 1, 12)))
    other = exact(q, k, v, (6, 1, 11), (6, 1, 11))
    assert (out - other).norm() / other.norm() > 1e-2


def test_nothing_crosses_a_border() -> None:
    """Keys and values of the second clip may be anything: the first clip's rows stay bit-equal."""
    q, k, v = random_qkv((4, 6), (3, 5))
    before = attend(q, k, v, Segments((4, 6)), Segments((3, 5)))
    k[3:], v[3:] = 50.0, -50.0
    after = attend(q, k, v, Segments((4, 6)), Segments((3, 5)))
    assert torch.equal(before[:4], after[:4]) and not torch.equal(before[4:], after[4:])


@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_chunks_of_bf16_scores_equal_fp64_maths(offset: float) -> None:
    """Queries and keys of unit RMS, as they come of their norms: a step of bf16, 2^-7, in scores of
    a few units. What all keys share adds nothing: of it, scores in the hundreds would lose their
    digits. Chunks of 2000 scores do not divide 320 rows."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 640, 3, 64)
    k, v = k + offset, v.bfloat16()
    segments = Segments((320, 320))
    assert backend(segments, segments, v, exact=False) == "chunked"
    assert backend(segments, segments, v) == "sdpa"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("model.attention.CHUNK", 2000)
        out = attend(q, k, v, segments, segments, exact=False)
    truth = exact(q, k, v, (320, 320), (320, 320))
    error = float((out - truth).norm() / truth.norm())
    print(f"offset {offset}: {error:.1e}")
    assert out.dtype == torch.bfloat16 and error <= 1e-2


def test_a_counted_key_is_as_many() -> None:
    q, k, v = random_qkv((4, 4), (3, 3))
    counts = torch.tensor([0.0, 0.0, math.log(5)])
    out = attend_counted(q, k, v, Segments((4, 4)), Segments((3, 3)), counts)
    many = [0, 1, *[2] * 5, 3, 4, *[5] * 5]
    truth = exact(q, k[many], v[many], (4, 4), (7, 7))
    assert (out - truth).norm() / truth.norm() <= 1e-6


def test_autocast_changes_nothing() -> None:
    q, k, v = random_qkv((5, 2), (5, 2))
    segments = Segments((5, 2))
    with torch.autocast("cpu", torch.bfloat16):
        inside = attend(q, k, v, segments, segments)
    assert torch.equal(inside, attend(q, k, v, segments, segments))


def test_says_which_way_it_takes() -> None:
    assert backend(Segments((4, 4)), Segments((2, 2))) == "sdpa"
    assert backend(Segments((4, 4)), Segments((2, 3))) == "sdpa per run"
    assert backend(Segments((4, 5)), Segments((2, 2))) == "sdpa per run"


def test_an_empty_key_segment_gives_zeros() -> None:
    q, k, v = random_qkv((2, 3), (0, 4))
    out = attend(q, k, v, Segments((2, 3)), Segments((0, 4)))
    assert torch.equal(out[:2], torch.zeros_like(out[:2])) and out[2:].abs().min() > 0


@pytest.mark.parametrize(
    ("q_lengths", "kv_lengths", "message"),
    [
        ((4, 6), (8,), "2 query segments, but 1 key segments"),
        ((4, 5), (3, 5), "q has 10 rows, but its segments sum to 9"),
        ((4, 6), (3, 4), "k has 8 rows, but its segments sum to 7"),
    ],
)
def test_refuses_segments_that_do_not_fit(
    q_lengths: Lengths, kv_lengths: Lengths, message: str
) -> None:
    q, k, v = random_qkv((4, 6), (3, 5))
    with pytest.raises(ValueError, match=message):
        attend(q, k, v, Segments(q_lengths), Segments(kv_lengths))
