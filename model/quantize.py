"""Linear layers with weights of eight bits, for encoders that would not fit otherwise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Int8Linear(nn.Linear):
    """y = (x · Wᵀ) · s + b, W int8 and s one step size for each output; inputs keep their dtype.

    Symmetric, per output channel, rounded to nearest (as LLM.int8's weights: Dettmers et al., 2022,
    arXiv:2208.07339, §2), so that no weight is off by more than half a step. Only weights are
    narrow: it saves memory, not time.
    """

    step: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        step = weight.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12) / 127
        self.register_buffer("weight", (weight.float() / step).round().to(torch.int8))
        self.register_buffer("step", step[:, 0].to(weight.dtype))
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in_features)` to `(..., out_features)`."""
        y = F.linear(x, self.weight.to(x.dtype)) * self.step
        return y if self.bias is None else y + self.bias


def quantize_linears(module: nn.Module) -> None:
    """Put an `Int8Linear` in the place of every linear layer within `module`."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            setattr(module, name, Int8Linear(child))
        else:
            quantize_linears(child)
