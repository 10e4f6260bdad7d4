"""An exponential moving average of a module's parameters."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class EMA:
    """Averages of every parameter that is trained, in fp32, updated in place.

    Args:
        module: the module to follow; its current values are the start.
        decay: weight of the past; early on (1 + n) / (10 + n) is used where that is smaller, so
            that the start is forgotten (the warm-up of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._live = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.averages = {n: p.detach().clone().float() for n, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = [_local(p.detach()).float() for p in self._live.values()]
        torch._foreach_lerp_([_local(a) for a in self.averages.values()], live, 1 - decay)

    @contextmanager
    @torch.no_grad()
    def swapped(self) -> Iterator[None]:
        """Put the averages into the parameters' storage, and the parameters back at the end."""
        kept = {n: p.detach().clone() for n, p in self._live.items()}
        self._copy(self.averages)
        try:
            yield
        finally:
            self._copy(kept)

    @torch.no_grad()
    def _copy(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self._live.items():
            parameter.copy_(values[name])

    @torch.no_grad()
    def load(self, averages: dict[str, Tensor], updates: int) -> None:
        """Take over the averages of the same module."""
        self.updates = updates
        for name, average in self.averages.items():
            average.copy_(averages[name])


def _local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    part: Tensor = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return part
