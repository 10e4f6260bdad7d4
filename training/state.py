"""Everything a resumed run needs, in one object."""

import json
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.optim import Optimizer

from training.ema import EMA
from training.packing import PackStream


class DataChanged(Exception):
    """A state whose samples are not those of the data set at hand."""


@dataclass
class TrainState:
    """The whole state of a run; randomness follows from positions in the stream.

    Attributes:
        network: the module trained, not wrapped; its parameters may be shards.
        optimizers: in a fixed order.
        ema: the averages of the network's parameters.
        stream: the samples to come, with those that wait in open packs.
        data: fingerprint of the data set that the stream's positions mean.
        step: optimizer steps taken.
    """

    network: nn.Module
    optimizers: list[Optimizer]
    ema: EMA
    stream: PackStream
    data: str
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state, tensors by the names of their parameters and the rest as text."""
        place = {
            "step": self.step,
            "updates": self.ema.updates,
            "data": self.data,
            "stream": self.stream.state_dict(),
        }
        return {
            "network": self.network.state_dict(),
            "optimizers": get_optimizer_state_dict(self.network, self.optimizers),
            "averages": self.ema.averages,
            "place": json.dumps(place),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state, bit for bit.

        Raises:
            DataChanged: if it is of a run on other data.
        """
        place = json.loads(state["place"])
        if place["data"] != self.data:
            raise DataChanged(f"of a run on data {place['data']}, and the data is {self.data}")
        self.network.load_state_dict(state["network"])
        set_optimizer_state_dict(
            self.network, self.optimizers, optim_state_dict=state["optimizers"]
        )
        self.ema.load(state["averages"], place["updates"])
        self.stream.load_state_dict(place["stream"])
        self.step = place["step"]
