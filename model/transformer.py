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
from collections.abc import Callable
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import apply_lora_scale
from torch import Tensor, nn

from model.attention import attend, attend_counted, width
from model.context import Context, Moment, Prompt, Times
from model.kernels import add_norm, norm_rotate
from model.layers import (
    ConditionEmbedding,
    FeedForward,
    LayerNorm,
    PatchEmbedding,
    RMSNorm,
    affine_norm,
    gated_sum,
)
from model.rope import axis_dims, rotary_table
from model.tokens import Segments, Tokens, beside, patch_counts, unpatchify


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
        # An attribute, so that tokens that are spread over processes can be gathered around it.
        self.attend: Callable[[Tensor, Tensor, Tensor, Segments, Segments], Tensor] = attend

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
        v = self.split(self.to_v(x))
        q, k = (
            norm_rotate(rows.unsqueeze(1), norm.weight.float()[None], rotary, norm.eps, width(v))
            for rows, norm in ((self.to_q(x), self.norm_q), (self.to_k(x), self.norm_k))
        )
        return self.merge(self.attend(q.squeeze(1), k.squeeze(1), v, segments, segments))


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
        q = self.split(self.norm_q(self.to_q(x)))
        return self.merge(self.look(q, segments, context))

    def look(self, q: Tensor, segments: Segments, context: Context) -> Tensor:
        """Queries `(N, heads, head_dim)` to what they find, in the same shape."""
        k, v, *of_image = self._seen(context)
        if context.log_counts is None:
            out = self.attend(q, k, v, segments, context.text_segments)
        else:
            out = attend_counted(q, k, v, segments, context.text_segments, context.log_counts)
        if of_image and context.image_segments is not None:
            k, v = of_image
            out = out + self.attend(q, k, v, segments, context.image_segments)
        return out

    def keys_and_values(self, context: Context) -> list[Tensor]:
        """Of the text and, where there are any, the image tokens: `(M, heads, head_dim)` each."""
        text, image = context.text, context.image
        found = [self.norm_k(self.to_k(text)), self.to_v(text)]
        if image is not None:
            found += [self.norm_added_k(self.add_k_proj(image)), self.add_v_proj(image)]
        return [self.split(x) for x in found]

    def _seen(self, context: Context) -> list[Tensor]:
        """Keys and values, kept if the context keeps them."""
        if context.kept:
            return context.kept
        found = self.keys_and_values(context)
        if context.kept is not None:
            if context.text.device.type != "cpu":  # only there attention reads keys in fp32
                found = [x.type_as(found[1]) for x in found]
            context.kept.extend(found)
        return found


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and feed-forward, the first and last modulated (adaLN)."""

    def __init__(
        self, dim: int, ffn_dim: int, heads: int, cross_attn_norm: bool, eps: float,
        image_dim: int | None,
    ) -> None:  # fmt: skip
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
        weight, bias = [p.float().unsqueeze(0) for p in self.norm2.parameters()] or (None, None)

        _, normed = add_norm(x, None, None, 1 + scale, shift, index, self.eps, dtype)
        update = self.attn1(normed.flatten(0, 1), segments, rotary).view_as(x)
        x, normed = add_norm(x, update, gate, weight, bias, index, self.eps, dtype)
        own = not torch.is_grad_enabled()  # from here on x is this block's alone

        update = self.attn2(normed.flatten(0, 1), segments, encoder_hidden_states).view_as(x)
        x, normed = add_norm(
            x, update, None, 1 + ffn_scale, ffn_shift, index, self.eps, dtype, in_place=own
        )
        return gated_sum(x, self.ffn(normed), ffn_gate, index, in_place=own)


# What diffusers' caches must know of a block to skip it: that it returns its tokens alone.
TransformerBlockRegistry.register(
    TransformerBlock, TransformerBlockMetadata(return_hidden_states_index=0)
)


class SpacetimeTransformer(ModelMixin, ConfigMixin, PeftAdapterMixin, CacheMixin):
    """The denoiser. Config keys, parameter names and `forward` are WanTransformer3DModel's.

    One key is ours: `reference_tokens` adds a learned `reference_embedding (d,)` by which the
    network tells tokens that are shown beside a clip from the clip's own. diffusers ignores it.

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
        reference_tokens: bool = False,
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
        if reference_tokens:
            self.reference_embedding = nn.Parameter(torch.zeros(dim))
        self.gradient_checkpointing = False

    @apply_lora_scale("attention_kwargs")  # type: ignore[untyped-decorator]
    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor | Moment,
        encoder_hidden_states: Tensor | Prompt,
        encoder_hidden_states_image: Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        references: Tokens | None = None,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """The velocity of a batch of clips of one size.

        Args:
            hidden_states: latents `(B, C, T, H, W)`.
            timestep: 0..1000, one per clip `(B,)` or one per token `(B, N/B)`; or a step of a
                `Schedule`, whose embeddings are worked out at the first.
            encoder_hidden_states: text `(B, L, text_dim)`; every row of it is attended. Or a
                `Prompt`, of which keys and values are made at the first step.
            encoder_hidden_states_image: image tokens `(B, S, image_dim)`, or `(2B, S, image_dim)`
                for first and last image, where the config has `image_dim`.
            attention_kwargs: `{"scale": s}` scales the LoRA adapters.
            references: tokens that are shown beside a single clip, where the config has
                `reference_tokens`; what the network says of them is dropped.

        Returns:
            `sample (B, C_out, T, H, W)`, in a tuple where `return_dict` is false.

        Raises:
            ValueError: the batch sizes do not agree, there are references to several clips, or
                `timestep` has another shape.
        """
        batch, patch_size = len(hidden_states), self.config.patch_size
        moment = timestep if isinstance(timestep, Moment) else None
        given = timestep if isinstance(timestep, Tensor) else timestep.of(timestep.schedule.rows)
        tokens = Tokens.from_latents(hidden_states, given[:1] if moment else given, patch_size)
        tokens = moment.tokens(tokens) if moment else tokens
        count = len(tokens.coords)
        if references is not None:
            if batch != 1:
                raise ValueError(f"there are references to {batch} clips; allowed is one clip")
            tokens, moment = beside(tokens, references), None
        times = self._times(tokens, moment, batch, hidden_states.dtype)
        if isinstance(encoder_hidden_states, Prompt):
            contexts = self._contexts(encoder_hidden_states, batch)
        else:
            text, image = encoder_hidden_states, encoder_hidden_states_image
            contexts = [self._read_batch(text, image, batch)] * len(self.blocks)
        counts = patch_counts(hidden_states.shape[2:], patch_size)
        sample = unpatchify(self._run(tokens, times, contexts)[:count], counts, patch_size)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def _times(
        self, tokens: Tokens, moment: Moment | None, batch: int, dtype: torch.dtype
    ) -> Times:
        """Time, modulations and angles of tokens; of a step of a schedule, from those of all."""
        rows = tokens.timesteps if moment is None else moment.schedule.rows
        kept = {} if moment is None else moment.schedule.kept
        if (self, batch) not in kept:
            temb, modulation = self.condition_embedder.embed_time(rows, dtype)
            rotary = rotary_table(tokens.coords, self.config.attention_head_dim)
            kept[self, batch] = Times(temb, modulation, rotary)
        temb, modulation, rotary = kept[self, batch]
        if moment is None:
            return kept[self, batch]
        return Times(moment.of(temb), moment.of(modulation), rotary)

    def _contexts(self, prompt: Prompt, batch: int) -> list[Context]:
        """A context for every block, which keeps the keys and values that it makes of it."""
        if self not in prompt.kept:
            context = self._read_batch(prompt.text, prompt.image, batch)
            compiled = self.blocks[0]._compiled_call_impl is not None
            # Compiled, all prompts alike: one that fills its rows would have graphs of its own.
            if not prompt.text.is_cuda if compiled else prompt.repeats > 1:
                context = context.collapsed(prompt.repeats)
            prompt.kept[self] = [context._replace(kept=[]) for _ in self.blocks]
        return prompt.kept[self]

    def _read_batch(self, text: Tensor, image: Tensor | None, batch: int) -> Context:
        """Embed the text and image tokens of a batch of clips."""
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
        return self._read(text.flatten(0, 1), text_segments, image, image_segments)

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
        context = self._read(text, text_segments, image, image_segments)
        times = self._times(tokens, None, 0, text.dtype)
        return self._run(tokens, times, [context] * len(self.blocks))

    def _read(
        self,
        text: Tensor,
        text_segments: Segments,
        image: Tensor | None,
        image_segments: Segments | None,
    ) -> Context:
        context = Context(text, text_segments, image, image_segments)
        context.check(self.config.pos_embed_seq_len)
        text, image = self.condition_embedder.embed_context(text, image)
        context = context._replace(text=text, image=image)
        if image is not None:
            context = context.joined()
        return context if self.config.added_kv_proj_dim is None else context.parted()

    def _run(self, tokens: Tokens, times: Times, contexts: list[Context]) -> Tensor:
        """Embed patches, go through all blocks, each with its context, and the head."""
        temb, modulation, rotary = times
        runs = len(tokens.timesteps) if tokens.timestep_index is None else 1
        # Under autocast the residual stream stays fp32: fewer casts than in bf16, and no rounding.
        x = self.patch_embedding(tokens.patches).type_as(tokens.patches)
        if self.config.reference_tokens:  # without references, too: every step has all gradients
            flag = x.new_zeros(len(x)) if tokens.reference is None else tokens.reference
            x = torch.addcmul(x, flag[:, None].type_as(x), self.reference_embedding)
        elif tokens.reference is not None:
            raise ValueError("there are reference tokens, but reference_tokens is False")
        x = x.unflatten(0, (runs, -1))
        for block, context in zip(self.blocks, contexts, strict=True):
            arguments = (context, modulation, rotary, tokens.timestep_index, tokens.segments)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                x = self._gradient_checkpointing_func(block, x, *arguments)
            else:
                x = block(x, *arguments)
        shift, scale = (self.scale_shift_table + temb[:, None]).unbind(1)
        x = affine_norm(x, 1 + scale, shift, tokens.timestep_index, self.config.eps)
        out: Tensor = self.proj_out(x.to(modulation.dtype)).flatten(0, 1)
        return out
