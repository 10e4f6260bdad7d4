"""The spacetime diffusion transformer: latent patches and text in, velocity out.

A DiT (Peebles & Xie, 2023, arXiv:2212.09748) over spacetime patches with Wan's layout (Wan Team,
2025, arXiv:2503.20314): self-attention over the tokens of a clip, cross-attention to its text,
a feed-forward, each token shifted, scaled and gated by its timestep. Parameter names are those of
diffusers' WanTransformer3DModel, so checkpoints open unchanged both ways.

Shapes: N tokens in all clips, M context tokens in all, d = heads · head_dim, R timestep rows, and
G runs of tokens that share a row: R, or 1 where the tokens are indexed one by one.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import apply_lora_scale
from torch import Tensor, nn

from model.attention import attend
from model.layers import (
    ConditionEmbedding,
    FeedForward,
    LayerNorm,
    PatchEmbedding,
    RMSNorm,
    gated_sum,
    modulated_norm,
)
from model.rope import axis_dims, rotary_table, rotate
from model.tokens import Segments, Tokens, patch_counts, unpatchify

WAN_TEXT_LENGTH = 512


class Context(NamedTuple):
    """What a clip's tokens look at besides each other: text, and in I2V-2.1 image tokens."""

    text: Tensor
    text_segments: Segments
    image: Tensor | None = None
    image_segments: Segments | None = None


class Attention(nn.Module):
    """The projections of multi-head attention with RMS-normalised queries and keys."""

    def __init__(self, dim: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim), nn.Identity()])
        self.norm_q = RMSNorm(dim, eps)
        self.norm_k = RMSNorm(dim, eps)

    def split(self, x: Tensor) -> Tensor:
        """Channels to heads: `(N, d)` to `(N, heads, head_dim)`."""
        out: Tensor = x.unflatten(-1, (self.heads, -1))
        return out

    def merge(self, x: Tensor) -> Tensor:
        """Heads `(N, heads, head_dim)` to channels, projected: `(N, d)`."""
        out: Tensor = self.to_out[0](x.flatten(1))
        return out


class SelfAttention(Attention):
    """Tokens look at their clip's tokens; queries and keys are turned by position."""

    def forward(self, x: Tensor, segments: Segments, rotary: Tensor) -> Tensor:
        """Tokens `(N, d)` to their update `(N, d)`; rotary from `rotary_table`."""
        q = rotate(self.split(self.norm_q(self.to_q(x))), rotary)
        k = rotate(self.split(self.norm_k(self.to_k(x))), rotary)
        return self.merge(attend(q, k, self.split(self.to_v(x)), segments, segments))


class CrossAttention(Attention):
    """Tokens look at their clip's text and, apart from it, at its image tokens (I2V-2.1)."""

    def __init__(self, dim: int, heads: int, eps: float, image_dim: int | None) -> None:
        super().__init__(dim, heads, eps)
        if image_dim is not None:
            self.add_k_proj = nn.Linear(image_dim, dim)
            self.add_v_proj = nn.Linear(image_dim, dim)
            self.norm_added_k = RMSNorm(dim, eps)

    def forward(self, x: Tensor, segments: Segments, context: Context) -> Tensor:
        """Tokens `(N, d)` to their update `(N, d)`, from a context of M rows in all."""
        text, image = context.text, context.image
        q = self.split(self.norm_q(self.to_q(x)))
        k = self.split(self.norm_k(self.to_k(text)))
        out = attend(q, k, self.split(self.to_v(text)), segments, context.text_segments)
        if image is not None and context.image_segments is not None:
            k = self.split(self.norm_added_k(self.add_k_proj(image)))
            v = self.split(self.add_v_proj(image))
            out = out + attend(q, k, v, segments, context.image_segments)
        return self.merge(out)


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, the first and last modulated (adaLN)."""

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        heads: int,
        cross_attn_norm: bool,
        eps: float,
        image_dim: int | None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.attn1 = SelfAttention(dim, heads, eps)
        self.attn2 = CrossAttention(dim, heads, eps, image_dim)
        self.norm2 = LayerNorm(dim, eps) if cross_attn_norm else nn.Identity()
        self.ffn = FeedForward(dim, ffn_dim, dim)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Context,
        temb: Tensor,
        rotary: Tensor,
        timestep_index: Tensor | None,
        segments: Segments,
    ) -> Tensor:
        """Tokens `(G, N/G, d)` to the same; `temb (R, 6, d)` holds the rows of their timesteps."""
        x, index, dtype = hidden_states, timestep_index, temb.dtype
        modulation = (self.scale_shift_table + temb.float()).unbind(1)
        shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = modulation

        normed = modulated_norm(x, shift, scale, index, self.eps).to(dtype)
        update = self.attn1(normed.flatten(0, 1), segments, rotary)
        x = gated_sum(x, update.view_as(x), gate, index)

        normed = self.norm2(x).to(dtype)
        update = self.attn2(normed.flatten(0, 1), segments, encoder_hidden_states)
        x = x + update.view_as(x)

        normed = modulated_norm(x, ffn_shift, ffn_scale, index, self.eps).to(dtype)
        return gated_sum(x, self.ffn(normed), ffn_gate, index)


# What diffusers' caches must know of a block to skip it: that it returns its tokens alone.
TransformerBlockRegistry.register(
    TransformerBlock, TransformerBlockMetadata(return_hidden_states_index=0)
)


class SpacetimeTransformer(ModelMixin, ConfigMixin, PeftAdapterMixin, CacheMixin):
    """The denoiser. Config keys, parameter names and `forward` are WanTransformer3DModel's.

    `forward` takes a batch of clips of one size; `forward_tokens` takes packed clips of any sizes
    and durations. The first goes through the second.

    `enable_cache` takes diffusers' FirstBlockCacheConfig, for use under `cache_context` as in
    WanPipeline; caches that hook diffusers' own attention classes find none here.
    """

    _supports_gradient_checkpointing = True
    _skip_layerwise_casting_patterns = ["patch_embedding", "condition_embedder", "norm"]
    _no_split_modules = ["TransformerBlock"]
    _repeated_blocks = ["TransformerBlock"]
    _keep_in_fp32_modules = ["time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"]
    _keys_to_ignore_on_load_unexpected = ["norm_added_q"]

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int | None = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
    ) -> None:
        super().__init__()
        axis_dims(attention_head_dim)  # refuses an odd one by name
        heads, dim = num_attention_heads, num_attention_heads * attention_head_dim
        self.patch_embedding = PatchEmbedding(in_channels, dim, patch_size)
        self.condition_embedder = ConditionEmbedding(
            dim, freq_dim, text_dim, image_dim, pos_embed_seq_len
        )
        self.blocks = nn.ModuleList(
            TransformerBlock(dim, ffn_dim, heads, cross_attn_norm, eps, added_kv_proj_dim)
            for _ in range(num_layers)
        )
        self.proj_out = nn.Linear(dim, (out_channels or in_channels) * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)
        self.gradient_checkpointing = False

    @apply_lora_scale("attention_kwargs")  # type: ignore[untyped-decorator]
    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """The velocity of a batch of clips of one size.

        Args:
            hidden_states: latents `(B, C, T, H, W)`.
            timestep: 0..1000, one per clip `(B,)` or one per token `(B, N/B)`.
            encoder_hidden_states: text `(B, L, text_dim)`; every row of it is attended.
            encoder_hidden_states_image: image tokens `(B, S, image_dim)`, or `(2B, S, image_dim)`
                for first and last image, where the config has `image_dim`.
            attention_kwargs: `{"scale": s}` scales the LoRA adapters.

        Returns:
            `sample (B, C_out, T, H, W)`, in a tuple where `return_dict` is false.

        Raises:
            ValueError: the batch sizes do not agree, or `timestep` has another shape.
        """
        batch, patch_size = len(hidden_states), self.config.patch_size
        tokens = Tokens.from_latents(hidden_states, timestep, patch_size)
        text, image = encoder_hidden_states, encoder_hidden_states_image
        if len(text) != batch:
            raise ValueError(f"{batch} clips, but encoder_hidden_states is a batch of {len(text)}")
        text_segments, image_segments = Segments.even(batch, text.shape[1]), None
        if image is not None:
            if len(image) % batch:
                raise ValueError(
                    f"{batch} clips, but encoder_hidden_states_image is a batch of {len(image)}"
                )
            image = image.flatten(0, 1)
            image_segments = Segments.even(batch, len(image) // batch)
        sample = self.forward_tokens(
            tokens, text.flatten(0, 1), text_segments, image, image_segments
        )
        counts = patch_counts(hidden_states.shape[2:], patch_size)
        sample = unpatchify(sample, counts, patch_size)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def forward_tokens(
        self,
        tokens: Tokens,
        text: Tensor,
        text_segments: Segments,
        image: Tensor | None = None,
        image_segments: Segments | None = None,
    ) -> Tensor:
        """The velocity of packed tokens.

        Args:
            tokens: N tokens of any number of clips.
            text: the text rows of all clips, one after another, `(sum of lengths, text_dim)`.
            text_segments: the text lengths of the clips.
            image, image_segments: the same for image tokens, where the config has `image_dim`.

        Returns:
            `(N, pt·ph·pw·C_out)`, channels last within a patch.

        Raises:
            ValueError: segments do not agree with each other or with what they divide.
        """
        text_segments.check("text", len(text))
        if image is not None:
            self._check_image(image, image_segments, text_segments)
        temb, modulation, text, image = self.condition_embedder(tokens.timesteps, text, image)
        context = Context(text, text_segments, image, image_segments)
        if image is not None:
            context = _join(context)
        if self.config.added_kv_proj_dim is not None:
            context = _part(context)
        rotary = rotary_table(tokens.coords, self.config.attention_head_dim)
        runs = len(tokens.timesteps) if tokens.timestep_index is None else 1
        # Under autocast the residual stream stays fp32: fewer casts than in bf16, and no rounding.
        x = self.patch_embedding(tokens.patches).type_as(tokens.patches).unflatten(0, (runs, -1))
        arguments = (context, modulation, rotary, tokens.timestep_index, tokens.segments)
        for block in self.blocks:
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(block, x, *arguments)
            else:
                x = block(x, *arguments)
        shift, scale = (self.scale_shift_table + temb[:, None]).unbind(1)
        x = modulated_norm(x, shift, scale, tokens.timestep_index, self.config.eps)
        out: Tensor = self.proj_out(x.to(modulation.dtype)).flatten(0, 1)
        return out

    def _check_image(
        self, image: Tensor, image_segments: Segments | None, text_segments: Segments
    ) -> None:
        if image_segments is None or len(image_segments) != len(text_segments):
            count = 0 if image_segments is None else len(image_segments)
            raise ValueError(f"{count} image segments, but {len(text_segments)} text segments")
        image_segments.check("image", len(image))
        wanted = self.config.pos_embed_seq_len
        if wanted is not None and set(image_segments.lengths) != {wanted}:
            raise ValueError(
                f"image segments are {image_segments.lengths} long; "
                f"this model's pos_embed_seq_len asks for {wanted} rows a clip"
            )


def _join(context: Context) -> Context:
    """Put every clip's image tokens in front of its text."""
    assert context.image is not None and context.image_segments is not None
    image = context.image.split(context.image_segments.lengths)
    text = context.text.split(context.text_segments.lengths)
    clips = [torch.cat(pair) for pair in zip(image, text, strict=True)]
    return Context(torch.cat(clips), Segments(tuple(map(len, clips))))


def _part(context: Context) -> Context:
    """Take the last 512 rows of every clip's context for its text and those before for its image.

    I2V-2.1 weights are only ever used with text padded to 512 rows; the rule, and what it does
    to other lengths, is diffusers'.
    """
    clips = context.text.split(context.text_segments.lengths)
    cuts = [len(clip) - WAN_TEXT_LENGTH for clip in clips]
    text = [clip[cut:] for clip, cut in zip(clips, cuts, strict=True)]
    image = [clip[:cut] for clip, cut in zip(clips, cuts, strict=True)]
    return Context(
        torch.cat(text),
        Segments(tuple(map(len, text))),
        torch.cat(image),
        Segments(tuple(map(len, image))),
    )
