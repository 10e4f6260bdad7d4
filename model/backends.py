"""Attention kernels besides torch's scaled_dot_product_attention, and how one is chosen.

`KINETOGRAPH_ATTENTION` in the environment forces one of `NAMES`.
"""

import logging
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor

from model.tokens import Segments

log = logging.getLogger("kinetograph.attention")

MODULES = {
    "fa3": "flash_attn_interface",
    "sage": "sageattention",
    "xformers": "xformers",
    "varlen": "torch.nn.attention.varlen",
}
"""Kernels and where they are imported from. Sage computes in eight bits: it is never chosen."""
NAMES = ("sdpa", "sdpa per run", *MODULES, "chunked")
INSTALLED = frozenset(n for n in NAMES if n not in MODULES or find_spec(MODULES[n]) is not None)
FORCED = os.environ.get("KINETOGRAPH_ATTENTION") or None
SHORT = 1500
"""Mean length of queries up to which one kernel over all segments is faster than one for each."""

MANY = 256
"""Mean length of keys from which on chunks of bf16 scores are faster on a CPU than fp32 ones."""


@dataclass(frozen=True)
class Problem:
    """What the choice depends on.

    Attributes:
        device: "cpu", "cuda", ...
        hopper: whether it is a GPU of compute capability 9.
        dtype: of the values.
        head_dim: width of a head.
        gradients: whether they are wanted.
        exact: whether scores must be fp32 on a CPU.
    """

    device: str
    hopper: bool
    dtype: torch.dtype
    head_dim: int
    gradients: bool
    q_segments: Segments
    kv_segments: Segments
    exact: bool = True

    @property
    def dense(self) -> bool:
        """Whether the segments are a batch."""
        return None not in (self.q_segments.common_length, self.kv_segments.common_length)

    @property
    def short(self) -> bool:
        """Whether the queries' segments are, on average."""
        return self.q_segments.total < SHORT * len(self.q_segments)


TABLE: tuple[tuple[str, Callable[[Problem], bool]], ...] = (
    ("chunked", lambda p: not p.exact and p.kv_segments.total >= MANY * len(p.kv_segments)),
    ("fa3", lambda p: p.dense and p.hopper),
    ("sdpa", lambda p: p.dense),
    ("xformers", lambda p: p.short),
    ("varlen", lambda p: p.short),
    ("sdpa per run", lambda p: True),
)
"""The first that applies, fits and is installed is taken."""


def misfit(name: str, problem: Problem) -> str | None:
    """Why a backend cannot solve a problem, or None if it can."""
    if name in ("sdpa", "fa3", "sage") and not problem.dense:
        return "segments of one length"
    if name.startswith("sdpa"):
        return None
    if problem.device != ("cpu" if name == "chunked" else "cuda"):
        return "a CPU" if name == "chunked" else "a CUDA device"
    if problem.dtype not in (torch.bfloat16, torch.float16):
        return "bf16 or fp16"
    if problem.head_dim % 8 or problem.head_dim > 256:
        return "heads of a multiple of 8, up to 256"
    if 0 in problem.kv_segments.lengths:
        return "keys in every segment"
    unfit = problem.gradients and name in ("sage", "chunked")
    return "no gradients" if unfit else None


def choose(
    problem: Problem, forced: str | None = FORCED, installed: Collection[str] = INSTALLED
) -> str:
    """The backend, of `NAMES`, for a problem; nothing is forced where memory is estimated.

    Raises:
        ValueError: for a forced one that is unknown, not installed or cannot solve it.
    """
    if forced is not None and problem.device != "meta":
        if forced not in NAMES:
            raise ValueError(f"KINETOGRAPH_ATTENTION is {forced!r}; allowed: {', '.join(NAMES)}")
        if forced not in installed:
            raise ValueError(f"KINETOGRAPH_ATTENTION is {forced!r}, which is not installed")
        if reason := misfit(forced, problem):
            raise ValueError(f"KINETOGRAPH_ATTENTION is {forced!r}, which needs {reason}")
        return forced
    for name, applies in TABLE:
        if name in installed and applies(problem) and misfit(name, problem) is None:
            return name
    raise AssertionError("the table's last row is for every problem")


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def is_hopper(device: torch.device) -> bool:
    """Whether a device is a GPU of compute capability 9."""
    return device.type == "cuda" and torch.cuda.get_device_properties(device).major == 9


@cache
def tell(name: str) -> None:
    """Log a backend when it is first used."""
    log.info("attention: %s", name)


@lru_cache(maxsize=64)
def _offsets(segments: Segments, device: torch.device) -> Tensor:
    ends = list(accumulate(segments.lengths, initial=0))
    return torch.tensor(ends, dtype=torch.int32, device=device)


def _varlen(q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    q_ends, k_ends = (_offsets(segments, v.device) for segments in (q_segments, kv_segments))
    q_most, k_most = max(q_segments.lengths), max(kv_segments.lengths)
    return cast(Tensor, varlen_attn(q, k, v, q_ends, k_ends, q_most, k_most))


def _xformers(
    q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments
) -> Tensor:
    from xformers.ops import memory_efficient_attention
    from xformers.ops.fmha.attn_bias import BlockDiagonalMask

    lengths = (list(segments.lengths) for segments in (q_segments, kv_segments))
    mask = BlockDiagonalMask.from_seqlens(*lengths, device=v.device)
    out: Tensor = memory_efficient_attention(q[None], k[None], v[None], attn_bias=mask)[0]
    return out


def _fa3(q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments) -> Tensor:
    from flash_attn_interface import flash_attn_func

    out = flash_attn_func(*_batched(q, k, v, q_segments, kv_segments))
    rows: Tensor = (out[0] if isinstance(out, tuple) else out).flatten(0, 1)
    return rows


def _sage(q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments) -> Tensor:
    from sageattention import sageattn

    batch = _batched(q, k, v, q_segments, kv_segments)
    out: Tensor = sageattn(*batch, tensor_layout="NHD").flatten(0, 1)
    return out


def _batched(
    q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments
) -> tuple[Tensor, Tensor, Tensor]:
    clips = len(q_segments)
    return q.unflatten(0, (clips, -1)), k.unflatten(0, (clips, -1)), v.unflatten(0, (clips, -1))


KERNELS: dict[str, Callable[[Tensor, Tensor, Tensor, Segments, Segments], Tensor]] = {
    "fa3": _fa3,
    "sage": _sage,
    "xformers": _xformers,
    "varlen": _varlen,
}
