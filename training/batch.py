"""From the samples of a pack to what the network sees and what it is to answer."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from model.conditions import reference_tokens
from model.flow import TIMESTEP_SCALE, interpolate, sample_timesteps, velocity
from model.tokens import Segments, Tokens, beside, grid, pack, patch_counts, patchify
from training.config import ConfigError, TrainConfig
from training.data.dataset import Dataset
from training.data.sampler import Sample, sample_at
from training.masks import Condition, draw_condition, first_frame, most_references, nothing
from training.noise import generator
from training.packing import Pack, Packer, PackStream

GIVEN_NOISE = 0.1
"""Most noise on what is given, so that a network need not trust it to the last bit."""


@dataclass(frozen=True)
class Batch:
    """A pack as the network takes it.

    Attributes:
        tokens: of all samples, with the weights of the loss.
        target: the velocity of each token, laid out as the head writes it, `(N, pt·ph·pw·C)`.
        rows: of each segment, the row of the table of captions; 0 is the empty one.
        images: what an image encoder says of each segment's first frame, `(S, n, D)`, where the
            network reads that; else nothing.
    """

    tokens: Tokens
    target: Tensor
    rows: Tensor
    images: tuple[Tensor, ...] = ()

    @property
    def weight(self) -> Tensor:
        """The sum of the tokens' weights; over all packs of a step it divides the loss."""
        assert self.tokens.loss_weight is not None
        return self.tokens.loss_weight.sum()


class Batches:
    """Builds batches; what is in them depends on the seed and on positions in the stream alone."""

    def __init__(self, config: TrainConfig, dataset: Dataset, patch: tuple[int, ...]) -> None:
        self._config = config
        self._dataset = dataset
        self._patch = patch
        self._from_image = config.text.cached and dataset.starts_from_image

    def length(self, position: int) -> int:
        """How many tokens the sample at a position has, references included."""
        sample = self._sample(position)
        frames, height, width = self._size(sample)
        return (frames + len(self._condition(sample).references)) * height * width

    @property
    def smallest(self) -> int:
        """The fewest tokens that a sample can have: those of the smallest frame."""
        _, _, height, width = map(int, self._dataset.sizes.min(axis=0))
        return (height // self._patch[1]) * (width // self._patch[2])

    def _largest(self) -> tuple[int, int]:
        """The clip that can have the most tokens, and how many, whatever is drawn for it."""
        sizes, clips = np.unique(self._dataset.sizes, axis=0, return_index=True)
        found = []
        for (frames, _, height, width), clip in zip(sizes.tolist(), clips.tolist(), strict=True):
            count, rows, columns = patch_counts((frames, height, width), self._patch)
            if self._config.batch.image_share == 1:
                count = 1
            if self._config.network.reference_tokens:
                count += most_references(count)
            found.append((count * rows * columns, clip))
        most, clip = max(found, key=lambda one: one[0])
        return clip, most

    def check(self) -> None:
        """Refuse clips that packs cannot be made of.

        Raises:
            ConfigError: if there is no clip, or one that a pack may not be able to hold.
        """
        batch, count = self._config.batch, len(self._dataset)
        if not count:
            raise ConfigError("data: there are 0 usable clips; raise data.clips, or widen data.mix")
        if batch.tokens < self.smallest:
            raise ConfigError(
                f"batch.tokens: {batch.tokens} hold none of the {count} clips, so that there are 0 "
                f"usable ones; the smallest frame takes {self.smallest}, and that is the least"
            )
        clip, most = self._largest()
        if batch.tokens < most:
            beside = ", with what may be shown beside it" * self._config.network.reference_tokens
            raise ConfigError(
                f"batch.tokens: {batch.tokens}, but clip {clip} takes {most}{beside}; allowed is "
                "no less"
            )

    def stream(self, width: int) -> PackStream:
        """The packs of all steps, from position 0 on, for a network of a width.

        Raises:
            ConfigError: as `check`.
        """
        self.check()
        batch = self._config.batch
        packer = Packer(batch.tokens, self.smallest, batch.open_packs, batch.segments)
        return PackStream(
            self.length, packer, batch.packs, batch.window, width, seed=self._config.seed
        )

    def named(self, packs: Iterable[Pack]) -> list[dict[str, Any]]:
        """The clips of packs by number and caption, with the tokens of each."""
        return [
            {"clip": (clip := self._sample(position).clip), "tokens": tokens,
             "caption": self._dataset.captions[clip]}
            for pack in packs
            for position, tokens in zip(pack.ids, pack.lengths, strict=True)
        ]  # fmt: skip

    def build(self, packed: Pack, budget: int | None = None) -> Batch:
        """Draw the noise, timesteps and conditions of a pack's samples, and lay out their tokens.

        With a `budget` the pack is filled up to so many tokens by a segment without text or weight,
        so that every pack has one shape.
        """
        samples = [self._sample(position) for position in packed.ids]
        parts, targets, rows = zip(*map(self._draw, samples), strict=True)
        batch = _filled(list(parts), list(targets), list(rows), budget)
        return self._with_images(batch, [sample.clip for sample in samples])

    def measured(self, clip: int, t: float, g: Generator, budget: int | None = None) -> Batch:
        """A clip on its own with nothing given, all of it at time t, to measure a loss with."""
        clean = self._dataset.latents(clip)
        condition = nothing(patch_counts(self._dataset.size(clip), self._patch))
        times = torch.full((clean.shape[1],), t)
        channels = self._channels(clip)
        tokens, target = self._noised(clean, condition, torch.zeros(()), g, channels, times)
        return self._with_images(_filled([tokens], [target], [1 + clip], budget), [clip])

    def _sample(self, position: int) -> Sample:
        seed, share, epoch = self._config.seed, self._config.batch.image_share, self._dataset.epoch
        slot = sample_at(seed, position, epoch, share)
        return replace(slot, clip=self._dataset.visit(slot.clip, position // epoch))

    def _size(self, sample: Sample) -> tuple[int, int, int]:
        frames, height, width = patch_counts(self._dataset.size(sample.clip), self._patch)
        return (1 if sample.image else frames), height, width

    def _condition(self, sample: Sample) -> Condition:
        size = self._size(sample)
        g = generator(self._config.seed, "condition", sample.position)
        if self._config.network.reference_tokens:
            return draw_condition(size, g)
        if size[0] > 1 and _chance(self._config.batch.first_frame_share, g):
            return first_frame(size)
        return nothing(size)

    def _draw(self, sample: Sample) -> tuple[Tokens, Tensor, int]:
        """One segment: its tokens, their targets, its caption's row."""
        g = generator(self._config.seed, "sample", sample.position)
        row = 0 if _chance(self._config.batch.text_dropout, g) else 1 + sample.clip
        condition = self._condition(sample)
        given = GIVEN_NOISE * torch.rand((), generator=g) * _chance(0.5, g)
        if sample.image:
            still = int(torch.randint(self._dataset.size(sample.clip)[0], (), generator=g))
            clean = self._dataset.still_latents(sample.clip, (still,))
        else:
            clean = self._dataset.latents(sample.clip)
        tokens, target = self._noised(clean, condition, given, g, self._channels(sample.clip))
        if condition.references:
            shown = self._dataset.still_latents(sample.clip, condition.references)
            tokens = self._with_references(tokens, shown, condition, given, g)
            target = torch.cat([target, target.new_zeros(len(tokens.coords) - len(target),
                                                         target.shape[1])])  # fmt: skip
        return tokens, target, row

    def _noised(
        self,
        clean: Tensor,
        condition: Condition,
        given: Tensor,
        g: Generator,
        channels: Tensor | None,
        times: Tensor | None = None,
    ) -> tuple[Tokens, Tensor]:
        """The clip's own tokens: x_t with each token at its t, and the velocity from x₀ to ε.

        The t of each latent frame are drawn, or those that are told. Further channels stand behind
        those of x_t.
        """
        noise = torch.randn(clean.shape, generator=g)
        t = self._timesteps(clean, g) if times is None else times
        levels = torch.cat([t, given[None]])
        index = torch.where(condition.clean, len(t), torch.arange(len(t))[:, None, None])
        level = levels[index]
        for axis, size in enumerate(self._patch):
            level = level.repeat_interleave(size, dim=axis)
        shown = interpolate(clean, noise, level)
        if channels is not None:
            shown = torch.cat([shown, channels])
        noisy = ~condition.clean.flatten()
        alike = bool(noisy.all()) and bool((t == t[0]).all())
        tokens = Tokens(
            patches=patchify(shown[None], self._patch),
            coords=grid(condition.clean.shape),
            timesteps=(t[:1] if alike else levels) * TIMESTEP_SCALE,
            segments=Segments((len(noisy),)),
            timestep_index=None if alike else index.flatten(),
            loss_weight=noisy / noisy.sum().sqrt(),
        )
        target = patchify(velocity(clean, noise)[None], self._patch)
        return tokens, target.unflatten(1, (len(clean), -1)).transpose(1, 2).flatten(1)

    def _channels(self, clip: int) -> Tensor | None:
        """What Wan's image-to-video networks read beside x_t, as `model.conditions` has it.

        A mask of the pixel frames that are known, `s` channels, and their latents: `(s + C, T, h,
        w)`.
        """
        if not self._from_image:
            return None
        latents = self._dataset.first_latents(clip)
        known = latents.new_zeros(self._dataset.frames_per_latent, *latents.shape[1:])
        known[:, 0] = 1
        return torch.cat([known, latents])

    def _with_images(self, batch: Batch, clips: list[int]) -> Batch:
        found = [self._dataset.image_tokens(clip) for clip in clips] if self._from_image else []
        tokens = [one for one in found if one is not None]
        return replace(batch, images=(torch.stack(tokens),)) if tokens else batch

    def _timesteps(self, clean: Tensor, g: Generator) -> Tensor:
        """One t a latent frame, `(T,)`: mostly one for all, at times independent or rising."""
        flow, tokens = self._config.flow, clean[0].numel() // (self._patch[1] * self._patch[2])
        law = (flow.mean(tokens), flow.logit_std, flow.uniform_share)
        t = sample_timesteps(clean.shape[1], *law, g)
        kind = float(torch.rand((), generator=g))
        if kind < flow.independent_share:
            return t
        if kind < flow.independent_share + flow.rising_share:
            return t.sort().values
        return t[:1].expand(len(t))

    def _with_references(
        self, tokens: Tokens, shown: Tensor, condition: Condition, given: Tensor, g: Generator
    ) -> Tokens:
        """The same segment with frames that were encoded alone behind it."""
        noisy = interpolate(shown, torch.randn(shown.shape, generator=g), given)
        stride, timestep = self._dataset.frames_per_latent, given[None] * TIMESTEP_SCALE
        frames = [stride * k for k in condition.references]
        return beside(tokens, reference_tokens(noisy, frames, timestep, self._patch, stride))


def _chance(share: float, g: Generator) -> bool:
    return bool(torch.rand((), generator=g) < share)


def _filled(
    parts: list[Tokens], targets: list[Tensor], rows: list[int], budget: int | None
) -> Batch:
    """Segments as one batch, filled up to a budget."""
    spare = 0 if budget is None else budget - sum(map(len, targets))
    if spare:
        parts = [*parts, _padding(spare, parts[0].patches.shape[1])]
        targets = [*targets, torch.zeros(spare, targets[0].shape[1])]
    return Batch(pack(parts), torch.cat(targets), torch.tensor(rows))


def _padding(count: int, width: int) -> Tokens:
    return Tokens(
        patches=torch.zeros(count, width),
        coords=torch.zeros(count, 3),
        timesteps=torch.zeros(1),
        segments=Segments((count,)),
        loss_weight=torch.zeros(count),
    )
