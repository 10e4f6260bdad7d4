"""What a video starts from besides noise and text: which of its tokens are given, and how.

There are two ways to give a frame. A token that is *clean* keeps its place, at timestep 0; since
the autoencoder is causal, a clean prefix says nothing of what follows. A *reference* is one pixel
frame encoded alone and shown beside the clip, at its place in time: the latent of a later frame in
place would already show the frames before it. Training draws which are given, and sampling takes
them from a request; both lay them out here. Wan's image-to-video networks are older and take frames
as further input channels instead.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.components import Components
from model.latents import encode_frames, encode_video
from model.request import ResolvedRequest
from model.tokens import (
    PatchSize,
    Segments,
    Tokens,
    grid,
    patch_counts,
    patchify,
    still_position,
)

Size = tuple[int, int, int]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """What is given of a clip of `(T, H, W)` tokens.

    Attributes:
        clean: `(T, H, W)`, true where the token is given in place.
        references: latent frames whose last pixel frame is given beside the clip, ascending.
    """

    clean: Tensor
    references: tuple[int, ...] = ()

    @classmethod
    def of(
        cls, size: Size, prefix: int = 0, suffix: int = 0, frames: Iterable[int] = ()
    ) -> "Layout":
        """Give the first latent frames in place, and some or the last ones beside the clip."""
        clean = torch.zeros(size, dtype=torch.bool)
        clean[:prefix] = True
        return cls(clean, (*frames, *range(size[0] - suffix, size[0])))


def little(frames: int) -> int:
    """As much of a clip of T latent frames as is given where little is: ⌈T / 4⌉ of them."""
    return math.ceil(frames / 4)


def reference_tokens(
    latents: Tensor,
    frames: Sequence[int],
    timestep: Tensor,
    patch_size: PatchSize,
    frames_per_latent: int,
) -> Tokens:
    """The tokens of pixel frames that were encoded one by one, each at its place in time.

    Args:
        latents: `(C, n, h, w)`.
        frames: of each, its index among the clip's pixel frames.
        timestep: of all, `(1,)`.
    """
    coords = grid(patch_counts(latents.shape[1:], patch_size), latents.device)
    places = [still_position(frame, frames_per_latent) for frame in frames]
    coords[:, 0] = torch.tensor(places, device=latents.device)[coords[:, 0].long()]
    return Tokens(
        patches=patchify(latents[None], patch_size),
        coords=coords,
        timesteps=timestep,
        segments=Segments((len(coords),)),
        loss_weight=torch.zeros(len(coords), device=latents.device),
        reference=torch.ones(len(coords), dtype=torch.bool, device=latents.device),
    )


def kept_tokens(mask: NDArray[np.bool_], counts: Size, frames_per_latent: int) -> Tensor:
    """The tokens none of whose pixels a mask touches, `(T, H, W)`.

    Args:
        mask: `(1 + s·(T - 1), h, w)`, true where a video is to be drawn anew; h and w are multiples
            of H and W.
        counts: T, H and W.
        frames_per_latent: s.
    """
    mask = np.concatenate([np.repeat(mask[:1], frames_per_latent - 1, axis=0), mask])
    frames, height, width = counts
    blocks = mask.reshape(
        frames, -1, height, mask.shape[1] // height, width, mask.shape[2] // width
    )
    return torch.from_numpy(~blocks.any(axis=(1, 3, 5)))


@dataclass(frozen=True)
class Overlap:
    """How many latent frames of a clip the frames given before and after it fill."""

    before: int
    after: int

    @classmethod
    def of(cls, settings: ResolvedRequest, frames_per_latent: int) -> "Overlap":
        """As many as training gives where it gives little, and at most as many as there are."""
        frames = (settings.num_frames - 1) // frames_per_latent + 1
        head, tail = _head(settings), _tail(settings)
        # Where only one end is given, it is never less than two latent frames, which show motion.
        most = little(frames) if head and tail else min(max(2, little(frames)), frames - 1)
        before, after = (
            min(most, (len(given) - 1) // frames_per_latent + 1) if given else 0
            for given in (head, tail)
        )
        return cls(before, after)


def _head(settings: ResolvedRequest) -> Sequence[Pixels]:
    """The frames that come before a clip's new ones."""
    if settings.prefix is not None:
        return list(settings.prefix)
    return [] if settings.image is None or settings.mask is not None else [_rgb(settings.image)]


def _tail(settings: ResolvedRequest) -> Sequence[Pixels]:
    """The frames that come after a clip's new ones."""
    if settings.loop:
        return _head(settings)
    return [] if settings.suffix is None else list(settings.suffix)


def with_given(
    settings: ResolvedRequest, clip: Iterable[Pixels], frames_per_latent: int
) -> Iterator[Pixels]:
    """What a request is answered with: the frames that were made, and those they go on from.

    A prefix is followed, and a suffix preceded, by new frames: all of their frames are there,
    stretched to the size and otherwise untouched, in place of those that the network saw. A loop
    ends before the frame with which it begins, so that its last frame leads into its first.

    Args:
        clip: its frames `(n, H, W, 3)`, part by part.

    Yields:
        Frames `(n, H, W, 3)`, part by part.
    """
    overlap, first, stop = Overlap.of(settings, frames_per_latent), 0, settings.num_frames
    if settings.prefix is not None:
        first = 1 + (overlap.before - 1) * frames_per_latent
        yield _stretched(settings.prefix, settings)
    if overlap.after:
        stop -= 1 + (overlap.after - 1) * frames_per_latent
    for part in clip:
        if len(new := part[max(first, 0) : max(stop, 0)]):
            yield new
        first, stop = first - len(part), stop - len(part)
    if settings.suffix is not None:
        yield _stretched(settings.suffix, settings)


@dataclass(frozen=True)
class Conditions:
    """What a network is shown of a request, in the forms that there are; None: there is none.

    Attributes:
        clean: latents `(1, C, T', h, w)`, of which those of the tokens that are `known`
            `(T, H, W)` stand in for noisy ones, at timestep 0 (Wan2.2 TI2V and our own).
        known: see `clean`.
        references: frames that are shown beside the clip (our own).
        channels: input channels beside the noisy latents, `(1, 4 + C, T', h, w)`: a mask of the
            frames that are known, then the latents of these with grey between them (Wan I2V).
        image_tokens: embeddings of one image or two for cross-attention, `(1 or 2, S, image_dim)`
            (Wan2.1 I2V).
        source: latents `(1, C, T', h, w)` of the video or image that is drawn anew, in whole or in
            part.
    """

    clean: Tensor | None = None
    known: Tensor | None = None
    references: Tokens | None = None
    channels: Tensor | None = None
    image_tokens: Tensor | None = None
    source: Tensor | None = None

    def applied(self, latents: Tensor) -> Tensor:
        """Latents `(1, C, T', h, w)` with those that are known in their place, bit by bit."""
        if self.clean is None or self.known is None:
            return latents
        height, width = (
            n // k for n, k in zip(latents.shape[3:], self.known.shape[1:], strict=True)
        )
        cells = self.known.repeat_interleave(height, 1).repeat_interleave(width, 2)
        return torch.where(cells, self.clean, latents)


@torch.no_grad()
def encode_conditions(parts: Components, settings: ResolvedRequest) -> Conditions:
    """Encode what a request starts from, stretched to the size of the video."""
    if parts.transformer.config.in_channels != parts.vae.config.z_dim:
        return _as_channels(parts, settings)
    stride = parts.vae.config.scale_factor_temporal
    shape, patch_size = parts.latent_shape(settings), parts.transformer.config.patch_size
    counts, overlap = patch_counts(shape[2:], patch_size), Overlap.of(settings, stride)
    layout = Layout.of(counts, overlap.before, overlap.after)
    given = Conditions(
        source=_encode_source(parts, settings),
        references=_encode_references(parts, settings, layout.references),
    )
    if settings.mask is not None:
        known = kept_tokens(_fitted_mask(settings), counts, stride)
        return replace(given, clean=given.source, known=known.to(parts.device))
    if overlap.before:
        shown = _head(settings)[-1 - (overlap.before - 1) * stride :]
        clean = torch.zeros(shape, device=parts.device)
        clean[:, :, : overlap.before] = _encode(parts, settings, shown)
        return replace(given, clean=clean, known=layout.clean.to(parts.device))
    return given


def _encode_source(parts: Components, settings: ResolvedRequest) -> Tensor | None:
    if settings.video is not None:
        return _encode(parts, settings, settings.video[: settings.num_frames])
    if settings.image is not None and settings.mask is not None:
        return _encode(parts, settings, [_rgb(settings.image)] * settings.num_frames)
    return None


def _encode_references(
    parts: Components, settings: ResolvedRequest, suffix: Sequence[int]
) -> Tokens | None:
    """Every frame alone: those by name, and of a suffix the last of each latent frame it fills."""
    stride, tail = parts.vae.config.scale_factor_temporal, _tail(settings)
    shown = {frame: _rgb(image) for frame, image in settings.keyframes.items()}
    shown |= {k * stride: tail[(k - suffix[0]) * stride] for k in suffix}
    if settings.last_image is not None:
        shown[settings.num_frames - 1] = _rgb(settings.last_image)
    if not shown:
        return None
    frames = sorted(shown)
    latents = torch.cat([_encode(parts, settings, [shown[f]]) for f in frames], dim=2)
    return reference_tokens(
        latents[0].to(parts.placement.dtype),
        frames,
        torch.zeros(1, device=parts.device),
        parts.transformer.config.patch_size,
        stride,
    )


def _as_channels(parts: Components, settings: ResolvedRequest) -> Conditions:
    """The first frame, and the last if it is given, with grey between them."""
    images = [image for image in (settings.image, settings.last_image) if image is not None]
    shown = torch.from_numpy(_stretched([_rgb(image) for image in images], settings))
    ends = shown.to(parts.device).permute(3, 0, 1, 2) / 127.5 - 1
    video = ends.new_zeros(1, 3, settings.num_frames, settings.height, settings.width)
    video[:, :, 0] = ends[:, 0]
    video[:, :, settings.num_frames - len(images) + 1 :] = ends[:, 1:]
    latents = encode_video(parts.vae, video)
    known = latents.new_zeros(1, parts.vae.config.scale_factor_temporal, *latents.shape[2:])
    known[:, :, 0] = 1
    if settings.last_image is not None:
        known[:, -1, -1] = 1
    channels = torch.cat([known, latents], dim=1)
    return Conditions(channels=channels, image_tokens=_image_tokens(parts, images))


def _image_tokens(parts: Components, images: list[Image.Image]) -> Tensor | None:
    """The last hidden layer but one of the image encoder, as Wan2.1 I2V was trained on."""
    if parts.image_encoder is None:
        return None
    pictures = [image.convert("RGB") for image in images]
    inputs = parts.image_processor(images=pictures, return_tensors="pt").to(parts.device)
    hidden: Tensor = parts.image_encoder(**inputs, output_hidden_states=True).hidden_states[-2]
    return hidden


def _encode(parts: Components, settings: ResolvedRequest, frames: Iterable[Pixels]) -> Tensor:
    stretched = torch.from_numpy(_stretched(frames, settings))
    return encode_frames(parts.vae, stretched.to(parts.device))


def _stretched(frames: Iterable[Pixels], settings: ResolvedRequest) -> Pixels:
    """Frames of any one size to those of the video, `(T, H, W, 3)`."""
    size = (settings.width, settings.height)
    lanczos = Image.Resampling.LANCZOS
    return np.stack([np.asarray(Image.fromarray(frame).resize(size, lanczos)) for frame in frames])


def _rgb(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"))


def _fitted_mask(settings: ResolvedRequest) -> NDArray[np.bool_]:
    """The mask of every frame, stretched to their size."""
    assert settings.mask is not None
    size, nearest = (settings.width, settings.height), Image.Resampling.NEAREST
    fitted = [
        np.asarray(Image.fromarray(frame).resize(size, nearest), bool)
        for frame in settings.mask[: settings.num_frames]
    ]
    return np.stack(fitted * (settings.num_frames if len(fitted) == 1 else 1))
