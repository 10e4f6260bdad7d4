"""Runs training/train.py, looking into it, and with a fault planted where `seed` is below 0.

Notes in the run folder what the last rank holds of the parameters and of the tokens. A seed of -1
stands for 0 on every rank but the last, where it is 1. With -2 it is 0 on all, and the last rank's
gradient of one matrix is a tenth too large.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))

import train  # noqa: E402

from training import parallel  # noqa: E402
from training.config import TrainConfig, parse_arguments  # noqa: E402
from training.network import TextToVideo  # noqa: E402

LAST = os.environ.get("RANK") == str(int(os.environ.get("WORLD_SIZE", "1")) - 1)
held: dict[str, Any] = {"parameters": {}, "most_tokens": 0}


def look(network: TextToVideo) -> None:
    """Note the shares of the blocks' parameters, and the tokens that reach the first block."""

    def seen(module: torch.nn.Module, args: tuple[Any, ...]) -> None:
        held["most_tokens"] = max(held["most_tokens"], args[0].shape[:2].numel())

    network.transformer.blocks[0].register_forward_pre_hook(seen)
    for name, parameter in network.transformer.blocks.named_parameters():
        mine = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        held["parameters"][name] = mine.numel() / parameter.numel()


def distribute(network: TextToVideo, *rest: Any) -> torch.nn.Module:
    if fault == -2 and LAST:
        matrix = network.transformer.blocks[0].attn1.to_q.weight
        matrix.register_hook(lambda gradient: 1.1 * gradient)
    model = parallel.distribute(network, *rest)
    look(network)
    return model


if __name__ == "__main__":
    config = parse_arguments(TrainConfig, __doc__ or "")
    fault = config.seed
    if fault < 0:
        config = config.model_copy(update={"seed": int(fault == -1 and LAST)})
    train.distribute = distribute
    train.main(config)
    if LAST:
        (config.run / "held.json").write_text(json.dumps(held))
