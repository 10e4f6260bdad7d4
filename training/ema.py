"""An exponential moving average of a module's parameters."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """Averages of every parameter, in fp32, updated in place.

    Args:
        module: the module to follow; its current values are the start.
        decay: weight of the past; early on (1 + n) / (10 + n) is used where that is smaller, so
            that the start is forgotten (the warm-up of TensorFlow's ExponentialMovingAverage).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._live = dict(module.named_parameters())
        self.averages = {n: p.detach().clone().float() for n, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages towards the parameters."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = [p.detach().float() for p in self._live.values()]
        torch._foreach_lerp_(list(self.averages.values()), live, 1 - decay)

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

    def state_dict(self) -> dict[str, object]:
        """Return all that a resume needs."""
        return {"updates": self.updates, "averages": self.averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take over the state of another average of the same module."""
        updates, averages = state["updates"], state["averages"]
        assert isinstance(updates, int) and isinstance(averages, dict)
        self.updates = updates
        for name, average in self.averages.items():
            average.copy_(averages[name])
