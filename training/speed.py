"""How fast and how large a step is for its device: operations, share of the peak, memory."""

import resource
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from training.packing import Pack

PEAK_FLOPS = {
    "B200": 2250e12, "H200": 989e12, "H100 NVL": 835e12, "H100 PCIe": 756e12, "H100": 989e12,
    "A100": 312e12, "A800": 312e12, "L40S": 362e12, "L40": 181e12, "L4": 121e12, "A10G": 70e12,
    "A10": 125e12, "RTX 5090": 209e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip
"""Dense bf16 operations a second, from NVIDIA's data sheets; the first name found counts."""


def peak_flops(device: torch.device) -> float | None:
    """The device's peak in bf16 operations a second; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_FLOPS.items() if known in name), None)


def peak_memory(device: torch.device) -> int:
    """Bytes that this process has held at most: tensors of a GPU, or all that is resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class Cost:
    """What a transformer's step costs; two operations a multiply-accumulate.

    Attributes:
        width: d.
        ffn_dim: inner width of the feed-forward.
        layers: blocks.
        text: rows of text that every sample attends to.
    """

    width: int
    ffn_dim: int
    layers: int
    text: int

    def flops(self, lengths: Iterable[int]) -> int:
        """Operations of forward and backward over samples of so many tokens, recomputation aside.

        A block's forward: 12 d² a token in the six projections of its two attentions, 4 d² a row
        of text in the other two, 4 d·ffn in the feed-forward, 4 d for every pair that attends. The
        backward pass takes twice as many (Kaplan et al., 2020, §2.1).
        """
        d, text = self.width, self.text
        block = sum(
            length * (12 * d * d + 4 * d * self.ffn_dim + 4 * d * (length + text))
            + 4 * d * d * text
            for length in lengths
        )
        return 3 * self.layers * block

    def of(self, packs: Iterable[Pack]) -> int:
        """Operations of a step."""
        return sum(self.flops(pack.lengths) for pack in packs)
