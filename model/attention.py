"""Attention within segments, over packed queries, keys and values."""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.tokens import Segments


def backend(q_segments: Segments, kv_segments: Segments) -> str:
    """The way `attend` takes for these segments: "sdpa" or "sdpa per segment".

    Segments of one length are a batch, which is one call of torch's scaled_dot_product_attention;
    others are attended one by one, exactly and without padding.
    """
    dense = q_segments.common_length is not None and kv_segments.common_length is not None
    return "sdpa" if dense else "sdpa per segment"


def attend(q: Tensor, k: Tensor, v: Tensor, q_segments: Segments, kv_segments: Segments) -> Tensor:
    """softmax(q kᵀ / √head_dim) v, query segment i seeing key segment i alone.

    Args:
        q: `(N, heads, head_dim)`.
        k, v: `(M, heads, head_dim)`; q and k may be of a wider dtype than v.
        q_segments, kv_segments: as many lengths each, in sum N and M.

    Returns:
        `(N, heads, head_dim)` in the dtype of v; zeros where a key segment is empty.

    Raises:
        ValueError: the numbers of segments differ, or lengths do not sum to N or M.
    """
    if len(q_segments) != len(kv_segments):
        raise ValueError(f"{len(q_segments)} query segments, but {len(kv_segments)} key segments")
    for name, x, segments in (("q", q, q_segments), ("k", k, kv_segments), ("v", v, kv_segments)):
        segments.check(name, len(x))
    if backend(q_segments, kv_segments) == "sdpa":
        clips, keys = ((len(s), s.common_length) for s in (q_segments, kv_segments))
        return _sdpa(q.unflatten(0, clips), k.unflatten(0, keys), v.unflatten(0, keys)).flatten(
            0, 1
        )
    parts = zip(
        q.split(q_segments.lengths),
        k.split(kv_segments.lengths),
        v.split(kv_segments.lengths),
        strict=True,
    )
    return torch.cat([_sdpa(*(x.unsqueeze(0) for x in part)).squeeze(0) for part in parts])


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One call over a batch `(B, L, heads, head_dim)`."""
    # A CPU has no bf16 kernel worth it: forward is as fast in fp32, backward up to twice as fast.
    narrow = v.dtype in (torch.bfloat16, torch.float16)
    dtype = torch.float32 if narrow and v.device.type == "cpu" else v.dtype
    q, k, values = (x.to(dtype).transpose(1, 2) for x in (q, k, v))
    with torch.autocast(v.device.type, enabled=False):
        out = F.scaled_dot_product_attention(q, k, values)
    return out.transpose(1, 2).to(v.dtype)
