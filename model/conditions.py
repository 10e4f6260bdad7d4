"""What a video starts from besides noise and text: an image, in the form its transformer takes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from model.loading import Components
from model.request import ResolvedRequest


@dataclass(frozen=True)
class FirstFrame:
    """The first frame, in up to three forms; none of them means there is none.

    Attributes:
        clean: latents `(1, C, 1, h, w)` that stand in for the first noisy ones, at timestep 0
            (Wan2.2 TI2V).
        channels: input channels beside the noisy latents, `(1, 4 + C, T', h, w)`: a mask of the
            frames that are known, then the latents of the image followed by grey (Wan I2V).
        tokens: embeddings of the image for cross-attention, `(1, S, image_dim)` (Wan2.1 I2V).
    """

    clean: Tensor | None = None
    channels: Tensor | None = None
    tokens: Tensor | None = None


@torch.no_grad()
def encode_first_frame(parts: Components, settings: ResolvedRequest) -> FirstFrame:
    """Encode the request's image, if it has one, stretched to the size of the video."""
    if settings.image is None:
        return FirstFrame()
    image = settings.image.convert("RGB")
    size = (settings.width, settings.height)
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS)) / np.float32(127.5) - 1
    video = torch.from_numpy(pixels).permute(2, 0, 1)[None, :, None].to(parts.vae.device)
    if parts.transformer.config.in_channels == parts.vae.config.z_dim:
        return FirstFrame(clean=encode_video(parts.vae, video))
    grey = video.new_zeros(1, 3, settings.num_frames - 1, *video.shape[-2:])
    latents = encode_video(parts.vae, torch.cat([video, grey], dim=2))
    known = latents.new_zeros(1, parts.vae.config.scale_factor_temporal, *latents.shape[2:])
    known[:, :, 0] = 1
    return FirstFrame(
        channels=torch.cat([known, latents], dim=1), tokens=_image_tokens(parts, image)
    )


def latent_statistics(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of an autoencoder's latents, `(C, 1, 1, 1)` each."""
    mean, std = (
        torch.tensor(values, device=vae.device).view(-1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std


def encode_video(vae: Any, video: Tensor) -> Tensor:
    """Encode `(B, 3, T, H, W)` in [-1, 1] to the latents `(B, C, T', h, w)` that networks see.

    They have mean 0 and scale 1, by the autoencoder's own statistics.
    """
    mean, std = latent_statistics(vae)
    latents: Tensor = (vae.encode(video).latent_dist.mode() - mean) / std
    return latents


def _image_tokens(parts: Components, image: Image.Image) -> Tensor | None:
    """The last hidden layer but one of the image encoder, as Wan2.1 I2V was trained on."""
    if parts.image_encoder is None:
        return None
    inputs = parts.image_processor(images=image, return_tensors="pt").to(parts.image_encoder.device)
    hidden: Tensor = parts.image_encoder(**inputs, output_hidden_states=True).hidden_states[-2]
    return hidden
