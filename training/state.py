"""Everything a resumed run needs, in one object."""

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from training.ema import EMA


@dataclass
class TrainState:
    """The whole state of a run; randomness and data order follow from `step` and `cursor`.

    Attributes:
        network: the module trained, not wrapped.
        optimizers: in a fixed order.
        ema: the averages of the network's parameters.
        step: optimizer steps taken.
        cursor: samples taken from the data's endless order, over all processes.
    """

    network: nn.Module
    optimizers: list[Optimizer]
    ema: EMA
    step: int = 0
    cursor: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state as nested dictionaries of tensors and numbers."""
        return {
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "ema": self.ema.state_dict(),
            "step": self.step,
            "cursor": self.cursor,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state, bit for bit."""
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.ema.load_state_dict(state["ema"])
        self.step = state["step"]
        self.cursor = state["cursor"]
