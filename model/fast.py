"""Lays a loaded network out so that it runs quicker with the same answer, and undoes it.

What a layout changes: queries, keys and values of self-attention come of one product; on CUDA, and
compiled, the rows of queries and keys are so ordered that what rotary embedding turns together lies
in two halves of a head; on a CPU linear layers are oneDNN's, their weights in the order in which it
reads them, the feed-forward's GELU is within its product, attention over many bf16 keys goes by
chunks, and, where it is not compiled, of a short text the values are projected, once, not what is
found of them. What the steps of a video share (`model.context`) needs no layout.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from model.attention import attend, width
from model.context import Context
from model.kernels import norm_rotate
from model.layers import GELU
from model.tokens import Segments
from model.transformer import CrossAttention, SelfAttention, SpacetimeTransformer


def prepare_for_inference(
    network: SpacetimeTransformer, device: torch.device | None = None, compiled: bool = False
) -> None:
    """Lay a network out for sampling: without gradients, saving and adapters.

    Weights are moved, not copied: afterwards they take no more memory. `restore` puts them back bit
    by bit. What a prompt or a schedule keeps is of one layout, and not for another.

    Args:
        device: where it will compute; None: where it is.
        compiled: whether each block is compiled by torch, when it first meets a shape.
    """
    on_cpu = (device or network.device).type == "cpu"
    blocks: Any = network.blocks
    for block in blocks:
        block.attn1 = FusedAttention(block.attn1, halves=compiled or not on_cpu)
        if on_cpu and not compiled:
            block.attn2 = FoldedAttention(block.attn2)
        if on_cpu and torch.backends.mkldnn.is_available():
            _pack(block)
        if compiled:
            block.compile()
    if on_cpu:
        _leave_file(network)


def restore(network: SpacetimeTransformer) -> None:
    """Undo `prepare_for_inference`."""
    blocks: Any = network.blocks
    for block in blocks:
        _unpack(block)
        block.attn1 = block.attn1.plain()
        if isinstance(block.attn2, FoldedAttention):
            block.attn2 = block.attn2.attention
        block._compiled_call_impl = None  # as before `compile`, which torch does not undo itself


def is_prepared(network: nn.Module) -> bool:
    """Whether a network is laid out by `prepare_for_inference`."""
    blocks = getattr(network, "blocks", ())
    return any(isinstance(getattr(block, "attn1", None), FusedAttention) for block in blocks)


def is_compiled(network: nn.Module) -> bool:
    """Whether the blocks of a network are compiled."""
    return any(block._compiled_call_impl is not None for block in getattr(network, "blocks", ()))


class FusedAttention(nn.Module):
    """Self-attention whose queries, keys and values are one product.

    halves: whether its rows are ordered so that rotary embedding turns halves of a head.
    """

    def __init__(self, attention: SelfAttention, halves: bool) -> None:
        super().__init__()
        self.attention = attention
        self.halves = halves
        self.linears = [attention.to_q, attention.to_k, attention.to_v]
        self.rms = [attention.norm_q, attention.norm_k]
        self.trained = attention.to_q.weight.requires_grad
        order = self._order()
        self.norms = _frozen(torch.stack([norm.weight.detach()[order] for norm in self.rms]))
        self.qkv = nn.Linear(len(order), 3 * len(order), device="meta")
        for name in ("weight", "bias"):
            q, k, v = (getattr(linear, name).detach() for linear in self.linears)
            setattr(self.qkv, name, _frozen(torch.cat([q[order], k[order], v])))
        for module in (*self.linears, *self.rms):
            for name, _ in list(module.named_parameters()):
                setattr(module, name, None)

    def _order(self) -> Tensor:
        """Of each head's channels the first of all pairs that turn, then the second."""
        channels = torch.arange(self.attention.to_q.out_features)
        if not self.halves:
            return channels
        return channels.view(self.attention.heads, -1, 2).transpose(1, 2).flatten()

    def plain(self) -> SelfAttention:
        """The attention as it was."""
        back = self._order().argsort()
        for name in ("weight", "bias"):
            q, k, v = getattr(self.qkv, name).detach().chunk(3)
            for linear, rows in zip(self.linears, (q[back], k[back], v.clone()), strict=True):
                setattr(linear, name, nn.Parameter(rows, requires_grad=self.trained))
        for norm, weight in zip(self.rms, self.norms.detach(), strict=True):
            norm.weight = nn.Parameter(weight[back], requires_grad=self.trained)
        return self.attention

    def forward(self, x: Tensor, segments: Segments, rotary: Tensor) -> Tensor:
        """Tokens `(N, d)` to their update `(N, d)`; rotary from `rotary_table`."""
        rows = self.qkv(x).unflatten(1, (3, -1))
        v = self.attention.split(rows[:, 2])
        weight, eps = self.norms.float(), self.attention.norm_q.eps
        turned = norm_rotate(rows[:, :2], weight, rotary, eps, width(v), self.halves)
        q, k = turned.unbind(1)
        return self.attention.merge(attend(q, k, v, segments, segments, exact=False))


class FoldedAttention(nn.Module):
    """Cross-attention to a short text, whose values are projected once, not what is found of them.

    softmax(q kᵀ) v W = softmax(q kᵀ) (v W), head by head: for M keys a token takes heads · M · d
    multiplications in place of d² + M · d.
    """

    def __init__(self, attention: CrossAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, segments: Segments, context: Context) -> Tensor:
        """Tokens `(N, d)` to their update `(N, d)`, from a context of M rows in all."""
        attention, length = self.attention, context.text_segments.common_length
        few = length is not None and 2 * attention.heads * length <= x.shape[1]
        if not few or context.kept is None or context.image is not None:
            plain: Tensor = attention(x, segments, context)
            return plain
        if not context.kept:
            context.kept.extend(self._folded(context))
        k, v = context.kept
        q = attention.to_q(x).float()
        rms = torch.linalg.vecdot(q, q).div_(q.shape[1]).add_(attention.norm_q.eps).rsqrt_()
        q = q.mul_(rms[:, None]).unflatten(0, (len(k), -1))
        logits = (k @ q.mT).unflatten(1, (attention.heads, -1))
        if context.log_counts is not None:
            logits += context.log_counts[:, None]
        weights = logits.softmax(2).flatten(1, 2)  # a softmax over neighbours takes 20 times longer
        out: Tensor = weights.mT @ v
        return out.flatten(0, 1).type_as(x)

    def _folded(self, context: Context) -> tuple[Tensor, Tensor]:
        """Keys of queries that have no weight, and projected values, `(B, heads · M, d)` fp32."""
        attention, clips = self.attention, (len(context.text_segments), -1)
        k, v = (self._alone(x.unflatten(0, clips)) for x in attention.keys_and_values(context))
        k = k * attention.norm_q.weight.float() * (k.shape[2] // attention.heads) ** -0.5
        project = attention.to_out[0]
        bias = project(torch.zeros_like(v[:1, 0]))  # every head adds its share of it
        return k, project(v).float() - bias * (1 - 1 / attention.heads)

    def _alone(self, x: Tensor) -> Tensor:
        """`(B, M, heads, head_dim)` to `(B, heads · M, d)`: of each row one head, all else zero."""
        rows = torch.diag_embed(x.transpose(2, 3))
        return rows.permute(0, 3, 1, 4, 2).flatten(3).flatten(1, 2)


class PackedLinear(nn.Module):
    """A linear layer, and a GELU behind it, by oneDNN, with its weight as its kernels read it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.trained = self.linear.weight.requires_grad
        packed = self.linear.weight.detach()
        if not packed.is_meta:
            packed = torch.ops.mkldnn._reorder_linear_weight(packed, None)
        self.packed = _frozen(packed)
        self.activation = ("gelu", "tanh") if isinstance(module, GELU) else ("none", "")
        self.linear.register_parameter("weight", None)
        # A tensor: the compiler would make a graph for every number that it finds in a module.
        self.handle = torch.tensor(id(self), device="cpu")
        _PACKED[id(self)] = self

    @property
    def linear(self) -> nn.Linear:
        linear = self.module.proj if isinstance(self.module, GELU) else self.module
        assert isinstance(linear, nn.Linear)
        return linear

    def plain(self) -> nn.Module:
        """The module as it was."""
        weight = self.packed if self.packed.is_meta else self.packed.to_dense()
        self.linear.weight = nn.Parameter(weight.detach(), requires_grad=self.trained)
        return self.module

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        # Not as it lies in memory, which only oneDNN can read.
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.packed.is_mkldnn:
            destination[f"{prefix}packed"] = self.packed.to_dense()

    def forward(self, x: Tensor) -> Tensor:
        """`(..., dim_in)` to `(..., dim_out)`."""
        if torch.compiler.is_compiling():
            compiled: Tensor = packed_linear(x, self.linear.bias, self.handle)
            return compiled
        return self.multiply(x)

    def multiply(self, x: Tensor) -> Tensor:
        """What `forward` gives."""
        name, form = self.activation
        product = torch.ops.mkldnn._linear_pointwise
        x = x.to(self.packed.dtype)  # under autocast it may be narrower, which oneDNN refuses
        out: Tensor = product(x, self.packed, self.linear.bias, name, [], form)
        return out


_PACKED: WeakValueDictionary[int, PackedLinear] = WeakValueDictionary()


@torch.library.custom_op("kinetograph::packed_linear", mutates_args=())
def packed_linear(x: Tensor, bias: Tensor, handle: Tensor) -> Tensor:
    """The `PackedLinear` of a handle, which a graph can hold where it cannot hold the weight."""
    return _PACKED[int(handle)].multiply(x)


@packed_linear.register_fake
def _(x: Tensor, bias: Tensor, handle: Tensor) -> Tensor:
    return bias.new_empty(*x.shape[:-1], len(bias))


def _frozen(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x, requires_grad=False)


def _pack(module: nn.Module) -> None:
    """Put a `PackedLinear` in the place of every layer within that oneDNN computes."""
    for name, child in module.named_children():
        gelu = isinstance(child, GELU) and child.approximate == "tanh"
        linear = child.proj if gelu else child
        if type(linear) is not nn.Linear:
            _pack(child)
        elif linear.weight is not None and linear.weight.dtype in (torch.float32, torch.bfloat16):
            setattr(module, name, PackedLinear(child))


def _leave_file(network: nn.Module) -> None:
    """Copy what has not been laid out anew.

    A loaded tensor lies in the mapped file, and any one that is left keeps all of its pages in
    memory, those of the weights that were moved, too.
    """
    for parameter in network.parameters():
        if not (parameter.is_meta or parameter.is_mkldnn):
            parameter.data = parameter.data.clone()


def _unpack(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, PackedLinear):
            setattr(module, name, child.plain())
        else:
            _unpack(child)
