"""Video to the latents that networks see, and back: mean 0 and scale 1, by an autoencoder's own."""

from collections.abc import Iterator
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor

from model.autoencoder import VideoAutoencoder


def encode_frames(vae: Any, frames: Tensor) -> Tensor:
    """Encode frames `(T, H, W, 3)` uint8 to latents `(1, C, T', h, w)`."""
    return encode_video(vae, frames.permute(3, 0, 1, 2)[None].to(vae.dtype) / 127.5 - 1)


def encode_video(vae: Any, video: Tensor) -> Tensor:
    """Encode `(B, 3, T, H, W)` in [-1, 1] to the latents `(B, C, T', h, w)` that networks see.

    They have mean 0 and scale 1, by the autoencoder's own statistics.
    """
    mean, std = _latent_statistics(vae, video.device)
    latents: Tensor = (vae.encode(video).latent_dist.mode() - mean) / std
    return latents


def decode_stream(vae: Any, latents: Tensor) -> Iterator[Tensor]:
    """Decode latents `(1, C, T', h, w)`, as networks see them, one latent frame after the other.

    The frames are bit by bit those of the autoencoder's `decode`, but no more than one latent
    frame's are held, and several streams of one autoencoder may run at a time.

    Yields:
        Frames `(1, H, W, 3)` uint8, then `(s, H, W, 3)` for each further latent frame.
    """
    mean, std = _latent_statistics(vae, latents.device)
    z = (latents.float() * std + mean).to(vae.dtype)
    _bring(vae)
    for video in vae.decode_stream(z) if isinstance(vae, VideoAutoencoder) else _wan_stream(vae, z):
        pixels = (video[0].float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        yield pixels.permute(1, 2, 3, 0).contiguous()


@apply_forward_hook  # type: ignore[untyped-decorator]
def _bring(vae: Any) -> None:
    """Have an offloaded autoencoder brought to its device, as its own methods do."""


def _wan_stream(vae: Any, z: Tensor) -> Iterator[Tensor]:
    """What AutoencoderKLWan decodes step by step, over a causal cache that is this stream's own."""
    x = vae.post_quant_conv(z)
    cache: list[Any] = [None] * vae._cached_conv_counts["decoder"]
    for k in range(z.shape[2]):
        latent = x[:, :, k : k + 1]
        video = vae.decoder(latent, feat_cache=cache, feat_idx=[0], first_chunk=k == 0)
        if vae.config.patch_size is not None:
            video = unpatchify(video, patch_size=vae.config.patch_size)
        yield video.clamp(-1, 1)


def _latent_statistics(vae: Any, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of an autoencoder's latents, `(C, 1, 1, 1)` each."""
    mean, std = (
        torch.tensor(values, device=device).view(-1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std
