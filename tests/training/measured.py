"""Runs training/train.py with each way of checkpointing, and prints the most bytes it had.

torch's profiler hears of every allocation of the CPU's allocator. One line a way: its name, bytes.
"""

import gc
import sys
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))

import train  # noqa: E402

from training.config import TrainConfig, parse_arguments  # noqa: E402


def peak(config: TrainConfig) -> int:
    """The most bytes of tensors while a run takes its steps."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        train.main(config)
    held = most = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


if __name__ == "__main__":
    told = parse_arguments(TrainConfig, __doc__ or "")
    for way in ("none", "selective", "full"):
        parallel = told.parallel.model_copy(update={"checkpointing": way})
        run = told.run / way
        run.mkdir()
        print("peak", way, peak(told.model_copy(update={"run": run, "parallel": parallel})))
