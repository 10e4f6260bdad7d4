"""Where the parts of a checkpoint are kept, in which form, and where they compute."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from accelerate import cpu_offload_with_hook
from diffusers.hooks import apply_group_offloading

from model.manifest import CheckpointError

Offload = Literal["none", "model", "group"]


@dataclass(frozen=True)
class Placement:
    """How to hold a checkpoint.

    Attributes:
        device: where it computes.
        dtype: of text encoder and transformer; autoencoder and image encoder are fp32.
        offload: what is not in use waits in main memory. "none": all stays on the device; "model":
            one network at a time is there; "group": of transformer and text encoder one group of
            layers at a time, of the others one network.
        text_device: where the text encoder stays and computes; None leaves it to the above.
        text_int8: whether the text encoder's linear layers have weights of eight bits.
        compiled: whether the blocks of a transformer that stays on the device are compiled.
    """

    device: torch.device
    dtype: torch.dtype
    offload: Offload = "none"
    text_device: torch.device | None = None
    text_int8: bool = False
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.offload not in get_args(Offload):
            allowed = ", ".join(get_args(Offload))
            raise CheckpointError(f"offload is {self.offload!r}; allowed are {allowed}")

    @classmethod
    def of(
        cls,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        offload: Offload = "none",
        text_device: str | torch.device | None = None,
        text_int8: bool = False,
        compiled: bool = False,
    ) -> "Placement":
        """Choose what is left open: CUDA where there is one, and bf16 there, else fp32."""
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        apart = None if text_device is None else torch.device(text_device)
        return cls(device, dtype, offload, None if apart == device else apart, text_int8, compiled)

    def device_of(self, part: str) -> torch.device:
        """Where a component computes."""
        apart = self.text_device is not None and part.startswith("text_encoder")
        return self.text_device if apart and self.text_device else self.device

    def stays(self, part: str) -> bool:
        """Whether a component is always where it computes."""
        return self.offload == "none" or self.device_of(part) != self.device

    def in_groups(self, part: str) -> bool:
        """Whether a component comes in groups of layers."""
        grouped = part.startswith(("text_encoder", "transformer"))
        return self.offload == "group" and grouped and not self.stays(part)


def place(networks: dict[str, Any], placement: Placement) -> Callable[[], None]:
    """Put networks, by the names of their components, where they belong.

    Returns:
        What to call when none is in use, so that none is left on the device.
    """
    hooks: list[Any] = []
    for part, network in networks.items():
        if placement.stays(part):
            network.to(placement.device_of(part))
        elif placement.in_groups(part):
            blocks = part.startswith("transformer")
            apply_group_offloading(
                network,
                onload_device=placement.device,
                offload_type="block_level" if blocks else "leaf_level",
                num_blocks_per_group=1 if blocks else None,
            )
        else:
            previous = hooks[-1] if hooks else None
            _, hook = cpu_offload_with_hook(network, placement.device, previous)
            hooks.append(hook)
    return partial(_all_off, hooks)


def _all_off(hooks: list[Any]) -> None:
    for hook in hooks:
        hook.offload()
