"""Tokens a second of a training step, beside the same loop around diffusers' network.

    python -m benchmarks.train_step [--json] [-o docs/results/train_step.json]

Both start from the same weights and train on the same clips in one run, turn and turn about: x_t
and t in, velocity out, loss, backward, clipping, AdamW. Ours packs the clips of a batch, whatever
their sizes; the other pads each to the largest of its batch, since a batch has one size, and its
loss leaves the padding out. Only the clips' own tokens are counted. The cases are those of
train_step.yaml; one row each, eager and compiled, by the medians of its repeats. `loss_apart` is
the relative difference of the first losses. On a GPU the shapes are Wan's 1.3B, and there are the
share of the device's peak (mfu) and the memory in GB of the larger step of the two, each with its
own weights and moments.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from diffusers import WanTransformer3DModel
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from torch.utils.checkpoint import checkpoint

from benchmarks.environment import environment, write_results
from benchmarks.packing import MIXES, sizes
from model.attention import backend
from model.flow import TIMESTEP_SCALE, interpolate, velocity
from model.tokens import Segments, Tokens, pack, patchify
from model.transformer import SpacetimeTransformer
from training.noise import generator
from training.speed import Cost, peak_flops

CASES = Path(__file__).with_suffix(".yaml")
PATCH = (1, 2, 2)
WARM_UP = 2


@dataclass(frozen=True)
class Clips:
    """x_t and velocity of each clip `(C, T, H, W)`; all t `(B,)` and texts `(B, L, text_dim)`."""

    noisy: list[Tensor]
    target: list[Tensor]
    timesteps: Tensor
    text: Tensor

    @property
    def lengths(self) -> list[int]:
        """The tokens of each clip."""
        return [x[0].numel() // (PATCH[1] * PATCH[2]) for x in self.noisy]


def draw(table: np.ndarray, network: dict[str, int], batch: int, device: torch.device) -> Clips:
    """Clips of so many latent frames, rows and columns of patches, `(count, 3)`."""
    g = generator(0, "clips", batch)
    noisy, target = [], []
    timesteps = torch.rand(len(table), generator=g)
    for t, (frames, rows, columns) in zip(timesteps, table.tolist(), strict=True):
        shape = (network["channels"], frames, PATCH[1] * rows, PATCH[2] * columns)
        clean, noise = torch.randn(2, *shape, generator=g).to(device)
        noisy.append(interpolate(clean, noise, t.to(device)))
        target.append(velocity(clean, noise))
    text = torch.randn(len(table), network["text"], network["text_dim"], generator=g)
    return Clips(noisy, target, (timesteps * TIMESTEP_SCALE).to(device), text.to(device))


def packed(network: Any, clips: Clips) -> Callable[[], Tensor]:
    """Our step's loss: one sequence of all clips."""
    parts = [
        Tokens.from_latents(x[None], t[None], PATCH)
        for x, t in zip(clips.noisy, clips.timesteps, strict=True)
    ]
    tokens = pack(parts)
    target = torch.cat(
        [
            patchify(v[None], PATCH).unflatten(1, (len(v), -1)).transpose(1, 2).flatten(1)
            for v in clips.target
        ]
    )
    count, length = clips.text.shape[:2]

    def loss() -> Tensor:
        text = clips.text.flatten(0, 1)
        predicted = network.forward_tokens(tokens, text, Segments.even(count, length))
        mean: Tensor = (predicted.float() - target).square().mean()
        return mean

    return loss


def padded(network: Any, clips: Clips) -> Callable[[], Tensor]:
    """The other's loss: a batch of the largest size, of which what is no clip does not count."""
    largest = np.max([x.shape for x in clips.noisy], axis=0).tolist()
    noisy, target, inside = (torch.zeros(len(clips.noisy), *largest) for _ in range(3))
    for n, (x, v) in enumerate(zip(clips.noisy, clips.target, strict=True)):
        _, frames, height, width = x.shape
        noisy[n, :, :frames, :height, :width] = x
        target[n, :, :frames, :height, :width] = v
        inside[n, :, :frames, :height, :width] = 1
    noisy, target, inside = (x.to(clips.text.device) for x in (noisy, target, inside))
    count = inside.sum()

    def loss() -> Tensor:
        (predicted,) = network(noisy, clips.timesteps, clips.text, return_dict=False)
        mean: Tensor = ((predicted.float() - target).square() * inside).sum() / count
        return mean

    return loss


SIDES: dict[str, Callable[[Any, Clips], Callable[[], Tensor]]] = {
    "ours": packed,
    "diffusers": padded,
}


def networks(told: dict[str, Any], compiled: bool, device: torch.device) -> dict[str, nn.Module]:
    """Both networks, with the same weights."""
    shape = told["network"]
    options = {
        "num_attention_heads": shape["heads"], "attention_head_dim": shape["head_dim"],
        "num_layers": shape["layers"], "ffn_dim": shape["ffn_dim"], "text_dim": shape["text_dim"],
        "in_channels": shape["channels"], "out_channels": shape["channels"],
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]), device:
        torch.manual_seed(0)
        both = {"diffusers": WanTransformer3DModel(**options).train()}
        both["ours"] = SpacetimeTransformer(**options).train()
    both["ours"].load_state_dict(both["diffusers"].state_dict())
    for network in both.values():
        if told["checkpointing"] == "full":
            network.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False))
        if compiled:
            network.compile_repeated_blocks()
    return both


class Trainer:
    """A network and the loop around it."""

    def __init__(self, side: str, network: nn.Module, told: dict[str, Any], batches: list[Clips]):
        self.parameters = list(network.parameters())
        self.device = self.parameters[0].device
        self.optimizer = AdamW(self.parameters, lr=1e-5)
        self.losses = [SIDES[side](network, clips) for clips in batches]
        self.bf16 = told["precision"] == "bf16"
        self.seconds: list[float] = []
        self.first = 0.0
        self.peak = 0

    def run(self) -> None:
        """Take a step on each batch, and note the time of all."""
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        for loss in self.losses:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
                value = loss()
            value.backward()
            clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.first = self.first or value.item()
        if cuda:
            torch.cuda.synchronize()
            self.peak = max(self.peak, torch.cuda.max_memory_allocated())
        self.seconds.append(time.perf_counter() - started)


def measure(
    told: dict[str, Any], tables: list[np.ndarray], repeats: int, compiled: bool
) -> dict[str, Any]:
    """Train both in turn on batches of clips of these sizes; gives one row."""
    device = torch.device(told["device"])
    batches = [draw(table, told["network"], n, device) for n, table in enumerate(tables)]
    both = networks(told, compiled, device)
    trainers = {side: Trainer(side, both[side], told, batches) for side in SIDES}
    for turn in range(WARM_UP + repeats):
        order = list(trainers.values())
        for trainer in order if turn % 2 else reversed(order):
            trainer.run()
    lengths = [length for clips in batches for length in clips.lengths]
    seconds = {side: statistics.median(t.seconds[WARM_UP:]) for side, t in trainers.items()}
    ours, other = (trainers[side].first for side in SIDES)
    shape, segments = told["network"], Segments(tuple(batches[-1].lengths))
    dtype = torch.bfloat16 if told["precision"] == "bf16" else torch.float32
    v = torch.empty(0, shape["heads"], shape["head_dim"], dtype=dtype, device=device)
    ways = (
        backend(segments, others, v, gradients=True)
        for others in (segments, Segments.even(len(segments), shape["text"]))
    )
    row: dict[str, Any] = {
        "mode": "compiled" if compiled else "eager",
        "clips": len(lengths),
        "tokens": sum(lengths),
        "ours_tokens_per_s": round(sum(lengths) / seconds["ours"], 1),
        "diffusers_tokens_per_s": round(sum(lengths) / seconds["diffusers"], 1),
        "ratio": round(seconds["diffusers"] / seconds["ours"], 3),
        "loss_apart": abs(ours / other - 1),
        "attention": ", text ".join(ways),
    }
    if peak := peak_flops(device):
        width = shape["heads"] * shape["head_dim"]
        cost = Cost(width, shape["ffn_dim"], shape["layers"], shape["text"]).flops(lengths)
        row |= {f"{side}_mfu": cost / seconds[side] / peak for side in SIDES}
    if device.type == "cuda":
        row |= {f"{side}_gb": round(t.peak / 1e9, 2) for side, t in trainers.items()}
    return row


def rows(cases: dict[str, Any], device: str) -> Iterator[dict[str, Any]]:
    """Measure every case of a device."""
    told, repeats = {"device": device, **cases[device]}, cases["repeats"]
    for case in told["equal"]:
        tables = [np.array([case["size"]] * case["clips"])]
        name = f"equal {case['clips']} x " + "x".join(map(str, case["size"]))
        for compiled in (False, True):
            torch.compiler.reset()
            yield {"case": name, **measure(told, tables, repeats, compiled)}
    for case in told["mixed"]:
        table = sizes(MIXES[case["mix"]], case["clips"] * case["batches"])
        table[:, 0] = np.minimum(table[:, 0], case["frames"])
        tables = np.split(table, case["batches"])
        name = f"mixed {case['batches']} x {case['clips']}"
        yield {"case": name, **measure(told, tables, repeats, compiled=False)}


def main() -> None:
    """Measure and print a row a case."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file of environment and rows")
    parser.add_argument("--cases", type=Path, default=CASES, help="a YAML file of cases")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cases = yaml.safe_load(options.cases.read_text())
    told, found = environment(), []
    for row in rows(cases, device):
        found.append(row)
        if options.output:
            write_results(options.output, told, found)
        if not options.json:
            print(*(f"{name} {value}" for name, value in row.items()), sep="\t", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
