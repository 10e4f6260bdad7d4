"""What a checkpoint consists of, once it is open."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from model.placement import Placement
from model.request import ResolvedRequest


@dataclass(frozen=True)
class Components:
    """What a checkpoint consists of, on its device and ready for inference.

    `transformer_2` takes over below `boundary_ratio` of the scheduler's timesteps; both are None
    where there is one expert. `image_encoder` and `image_processor` are None but in Wan2.1
    image-to-video. Autoencoder and image encoder are always fp32, as Wan asks for. Under offloading
    a network's own `device` is not where it computes: `placement` says that, and `release` sends
    the network that was last in use back.
    """

    tokenizer: Any
    text_encoder: Any
    image_processor: Any
    image_encoder: Any
    transformer: Any
    transformer_2: Any
    vae: Any
    scheduler: Any
    boundary_ratio: float | None
    placement: Placement
    release: Callable[[], None] = lambda: None

    @property
    def device(self) -> torch.device:
        """Where latents are."""
        return self.placement.device

    def latent_shape(self, settings: ResolvedRequest) -> tuple[int, ...]:
        """`(1, C, T', h, w)` of the latents of a request."""
        vae = self.vae.config
        frames = (settings.num_frames - 1) // vae.scale_factor_temporal + 1
        stride = vae.scale_factor_spatial
        return (1, vae.z_dim, frames, settings.height // stride, settings.width // stride)

    @property
    def networks(self) -> dict[str, Any]:
        """The components that have weights, in the order in which they are used."""
        names = ("text_encoder", "image_encoder", "transformer", "transformer_2", "vae")
        return {name: part for name in names if (part := getattr(self, name)) is not None}
