"""Attention within segments, over packed queries, keys and values."""

from contextlib import nullcontext
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor

from model.backends import KERNELS, Problem, choose, is_hopper, tell
from model.tokens import Segments

CHUNK = 640_000
"""Scores of a chunk: with their softmax, 2.5 MB in bf16."""


def backend(
    q_segments: Segments,
    kv_segments: Segments,
    v: Tensor | None = None,
    gradients: bool = False,
    exact: bool = True,
) -> str:
    """The way `attend` takes for these segments and values, `(M, heads, head_dim)`.

    Without values, the way on a CPU: "sdpa" for segments of one length, which are a batch and one
    call of torch's scaled_dot_product_attention, else "sdpa per run" of neighbours of one length.
    """
    v = torch.empty(0, 1, 1) if v is None else v
    problem = Problem(
        device=v.device.type,
        hopper=is_hopper(v.device),
        dtype=v.dtype,
        head_dim=v.shape[-1],
        gradients=gradients,
        q_segments=q_segments,
        kv_segments=kv_segments,
        exact=exact,
    )
    return choose(problem)


def width(v: Tensor) -> torch.dtype:
    """What queries and keys are best given in: on a CPU they are read in fp32."""
    return torch.float32 if v.device.type == "cpu" else v.dtype


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_segments: Segments,
    kv_segments: Segments,
    exact: bool = True,
) -> Tensor:
    """softmax(q kᵀ / √head_dim) v, query segment i seeing key segment i alone.

    Args:
        q: `(N, heads, head_dim)`.
        k, v: `(M, heads, head_dim)`; q and k may be of a wider dtype than v.
        q_segments, kv_segments: as many lengths each, in sum N and M.
        exact: whether scores are fp32 on a CPU also where values are bf16.

    Returns:
        `(N, heads, head_dim)` in the dtype of v; zeros where a key segment is empty.

    Raises:
        ValueError: the numbers of segments differ, or lengths do not sum to N or M.
    """
    batches = None not in (q_segments.common_length, kv_segments.common_length)
    if not batches or _way(q, v, q_segments, kv_segments, exact) != "sdpa":
        out: Tensor = _attend_packed(q, k, v, q_segments, kv_segments, exact)
        return out
    _check(q, k, v, q_segments, kv_segments)
    clips, keys = ((len(s), s.common_length) for s in (q_segments, kv_segments))
    return _sdpa(q.unflatten(0, clips), k.unflatten(0, keys), v.unflatten(0, keys)).flatten(0, 1)


def _way(q: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments, exact: bool) -> str:
    name = backend(q_segments, kv_segments, v, torch.is_grad_enabled() and q.requires_grad, exact)
    if not torch.compiler.is_compiling():
        tell(name)
    return name


def attend_counted(
    q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments, log_counts: Tensor
) -> Tensor:
    """As `attend` for a batch whose j-th key is there exp(log_counts[j]) times, in every clip."""
    _check(q, k, v, q_segments, kv_segments)
    clips = len(q_segments)
    q, k, v = (x.unflatten(0, (clips, -1)) for x in (q, k, v))
    return _sdpa(q, k, v, bias=log_counts).flatten(0, 1)


# Lengths differ from pack to pack: traced, each pack, and the choice for it, would be a graph.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attend_packed(
    q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments, exact: bool
) -> Tensor:
    name = _way(q, v, q_segments, kv_segments, exact)
    _check(q, k, v, q_segments, kv_segments)
    if name == "chunked":
        return _attend_chunked(q, k, v, q_segments, kv_segments)
    if name in KERNELS:
        return KERNELS[name](q.to(v.dtype), k.to(v.dtype), v, q_segments, kv_segments)
    return _attend_runs(q, k, v, q_segments, kv_segments)


def _attend_chunked(
    q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments
) -> Tensor:
    """Head by head and chunk by chunk of queries, as many as leave their scores in the cache.

    Scores are of v's dtype. What is common to all keys says nothing, but would cost them digits.
    """
    out, scale = torch.empty_like(q, dtype=v.dtype), q.shape[-1] ** -0.5
    parts = (q, out), (k, v)
    clips = (
        zip(*(x.split(s.lengths) for x in pair), strict=True)
        for pair, s in zip(parts, (q_segments, kv_segments), strict=True)
    )
    for (queries, found), (keys, values) in zip(*clips, strict=True):
        chunk = max(CHUNK // len(keys), 16)
        keys = keys - keys.mean(0)
        for head in range(q.shape[1]):
            key, value = keys[:, head].to(v.dtype).t(), values[:, head].contiguous()
            for first in range(0, len(queries), chunk):
                rows = slice(first, first + chunk)
                scores = (queries[rows, head] * scale).to(v.dtype) @ key
                found[rows, head] = scores.softmax(-1) @ value
    return out


def _attend_runs(
    q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments
) -> Tensor:
    """One call for every run of neighbours of one length, exactly and without padding."""
    pairs = zip(q_segments.lengths, kv_segments.lengths, strict=True)
    runs = [(length, keys, len(list(run))) for (length, keys), run in groupby(pairs)]
    queries = q.split([length * count for length, _, count in runs])
    spans = [keys * count for _, keys, count in runs]
    parts = []
    for (length, keys, count), a, b, c in zip(
        runs, queries, k.split(spans), v.split(spans), strict=True
    ):
        rows = ((count, n, *x.shape[1:]) for n, x in ((length, a), (keys, b), (keys, c)))
        batch = (x.reshape(shape) for x, shape in zip((a, b, c), rows, strict=True))
        parts.append(_sdpa(*batch).flatten(0, 1))
    return torch.cat(parts)


def _check(q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments) -> None:
    if len(q_segments) != len(kv_segments):
        raise ValueError(f"{len(q_segments)} query segments, but {len(kv_segments)} key segments")
    for name, x, segments in (("q", q, q_segments), ("k", k, kv_segments), ("v", v, kv_segments)):
        segments.check(name, len(x))


def _sdpa(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """One call over a batch `(B, L, heads, head_dim)`; bias `(L,)` is added to the logits."""
    # A CPU has no bf16 kernel worth it: forward is as fast in fp32, backward up to twice as fast.
    narrow = v.dtype in (torch.bfloat16, torch.float16)
    dtype = torch.float32 if narrow and v.device.type == "cpu" else v.dtype
    q, k, values = (x.to(dtype).transpose(1, 2) for x in (q, k, v))
    kind = v.device.type  # meta, on which memory is estimated, has no autocast
    with nullcontext() if kind == "meta" else torch.autocast(kind, enabled=False):
        mask = None if bias is None else bias.to(dtype).expand(1, 1, 1, -1)
        out = F.scaled_dot_product_attention(q, k, values, mask)
    return out.transpose(1, 2).to(v.dtype)
