"""How a video looks while it is still being denoised: a few stills, small and quick."""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.latents import decode_stream

STILLS = 3
"""Latent frames that are decoded, each by itself."""
LONGEST = 64
"""Latent pixels of the long side, at most; larger latents are averaged down."""


def estimate(before: Tensor, after: Tensor, scheduler: Any) -> Tensor:
    """Where a rectified flow seems to lead: x0 = x - σ·v, v its velocity in the latest step.

    Lipman et al., 2023, arXiv:2210.02747, for the path x = (1 - σ)·x0 + σ·noise.

    Args:
        before, after: latents `(1, C, T', h, w)` around the scheduler's latest step.
    """
    index = scheduler.step_index
    sigma = float(scheduler.sigmas[index])
    length = sigma - float(scheduler.sigmas[index - 1])
    return after - (sigma / length) * (after - before) if length else after


@torch.no_grad()
def stills(vae: Any, latents: Tensor) -> NDArray[np.uint8]:
    """Decode evenly spaced latent frames of `(1, C, T', h, w)`: `(n, H, W, 3)` uint8, n at most 3.

    Each is decoded as if a video began with it, so the cost does not grow with the length.
    """
    count = latents.shape[2]
    picked = np.linspace(0, count - 1, min(count, STILLS)).round().astype(int)
    some = latents[:, :, torch.as_tensor(picked)]
    if (factor := math.ceil(max(latents.shape[-2:]) / LONGEST)) > 1:
        some = F.avg_pool3d(some, (1, factor, factor), ceil_mode=True)
    pictures = [next(decode_stream(vae, latent)) for latent in some.split(1, dim=2)]
    return torch.cat(pictures).cpu().numpy()
