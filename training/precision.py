"""In which numbers matrix products are taken: fp32, bf16, or fp8 where the device has them."""

import contextlib
import importlib.util
from typing import Any

import torch
from torch import nn

from training.config import ConfigError, TrainConfig

FP8_CAPABILITY = (8, 9)
"""Compute capability from which on GPUs multiply in fp8: Ada, Hopper and later."""
FP8_MULTIPLE = 16
"""What the sides of a matrix must be a multiple of."""


def check_precision(config: TrainConfig, device: torch.device) -> None:
    """Refuse fp8 where it cannot be had.

    Raises:
        ConfigError: saying what is missing.
    """
    if config.precision != "fp8":
        return
    has = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    if has < FP8_CAPABILITY:
        raise ConfigError(
            "precision: fp8 needs a GPU of compute capability 8.9 or more, and here is "
            f"{device.type} {has[0]}.{has[1]}; allowed here are 'no' and 'bf16'"
        )
    if importlib.util.find_spec("torchao") is None:
        raise ConfigError("precision: fp8 needs torchao, which is not installed: pip install "
                          "'.[cuda]'; allowed without it are 'no' and 'bf16'")  # fmt: skip


def to_fp8(blocks: nn.Module, emulate: bool = False) -> None:
    """Have the linear maps of transformer blocks multiply in fp8, in place; weights stay fp32.

    With `emulate`, numbers are rounded to fp8 and multiplied as wider ones, on any device.
    """
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    def fits(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and not any(
            side % FP8_MULTIPLE for side in (module.in_features, module.out_features)
        )

    # A gradient of weights sums over tokens, whose number is a multiple of nothing: padded there.
    told = Float8LinearConfig(pad_inner_dim=True, emulate=emulate)
    convert_to_float8_training(blocks, module_filter_fn=fits, config=told)


def autocast(config: TrainConfig, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bf16 for what gains by it; weights, sums and the residual stream stay fp32."""
    if config.precision == "no":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)
