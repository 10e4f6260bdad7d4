"""Optimizers and their schedule."""

from collections.abc import Sequence

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from training.config import OptimConfig


def build_optimizers(network: nn.Module, config: OptimConfig) -> list[Optimizer]:
    """Return Muon over the matrices inside transformer blocks and AdamW over all else.

    Muon orthogonalises a matrix's update (Jordan et al., 2024), which only makes sense for maps
    between hidden spaces: embeddings, heads, norms, biases and LoRAs stay with AdamW. Its momentum
    is Jordan's; AdamW's second beta is below the usual 0.999 because runs are a few thousand steps.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            hidden = ".blocks." in name and parameter.ndim == 2 and "lora_" not in name
            (matrices if hidden and config.muon else others).append(parameter)
    found: list[Optimizer] = []
    if matrices:
        decay = config.weight_decay
        found.append(Muon(matrices, lr=config.muon_lr, momentum=0.95, weight_decay=decay))
    return [
        *found,
        AdamW(others, lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay),
    ]


def schedule(step: int, steps: int, config: OptimConfig) -> float:
    """Return the factor on the learning rates: warm-up, constant, linear to zero at the end."""
    return ramp(step, steps, config.warmup_steps, config.decay_share)


def ramp(step: int, steps: int, warmup_steps: int, decay_share: float) -> float:
    """Rise to 1 over the first steps; fall to zero, in a line, over the last share of them."""
    warmup = min(1.0, (step + 1) / max(1, warmup_steps))
    decay_steps = decay_share * steps
    left = min(1.0, (steps - step) / decay_steps) if decay_steps else 1.0
    return warmup * left


def set_rates(optimizers: Sequence[Optimizer], factor: float, config: OptimConfig) -> None:
    """Set learning rates, scaled by `factor`, and weight decay.

    They come from the configuration at every step and never from a saved state, so that a run may
    be gone on with other ones.
    """
    for optimizer in optimizers:
        rate = config.muon_lr if isinstance(optimizer, Muon) else config.lr
        for group in optimizer.param_groups:
            group["lr"] = rate * factor
            group["weight_decay"] = config.weight_decay
