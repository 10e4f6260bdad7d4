"""Rectified flow: the straight path from data to noise, its velocity, and the law of timesteps.

Liu, Gong and Liu, "Flow Straight and Fast", 2022, §2; Esser et al., "Scaling Rectified Flow
Transformers", 2024, §3.1 for the logit-normal law.
"""

import torch
from torch import Tensor

TIMESTEP_SCALE = 1000.0
"""What the network is told for t = 1, as in the Wan checkpoints."""


def interpolate(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Return x_t = (1 - t)·x₀ + t·ε; `t` broadcasts against the samples."""
    return (1 - t) * clean + t * noise


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """Return the target v = dx_t/dt = ε - x₀."""
    return noise - clean


def sample_timesteps(
    count: int,
    logit_mean: float,
    logit_std: float,
    uniform_share: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw t in (0, 1): logit-normal, a share of the draws uniform so that no t is ever starved.

    Args:
        count: how many.
        logit_mean: mean of logit(t); positive favours noise.
        logit_std: standard deviation of logit(t).
        uniform_share: probability in [0, 1] of drawing from the uniform law instead.
        generator: the source of randomness, on the CPU.

    Returns:
        `(count,)`, fp32.
    """
    logits = logit_mean + logit_std * torch.randn(count, generator=generator)
    uniform = torch.rand(count, generator=generator)
    pick = torch.rand(count, generator=generator) < uniform_share
    return torch.where(pick, uniform, torch.sigmoid(logits)).clamp(1e-4, 1 - 1e-4)
