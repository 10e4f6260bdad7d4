"""Does a network read which word goes with which, or only what words there are?

    python -m benchmarks.binding --model model/pretrained [--json]

Clips of a square beside a circle are noised, and the network predicts the velocity three times:
under the caption, with "left" and "right" exchanged, and with the colours exchanged. Near t = 1
nothing of the clip is left to see. A network that reads the caption then loses by a false one; to
one that has learnt a bag of words, exchanged colours are the same caption. One row a t: the three
losses, and the share of the clips in which the false caption's is the larger, 0.5 by chance.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

import world
from model.flow import TIMESTEP_SCALE, interpolate, velocity
from model.latents import encode_video
from model.pipeline import VideoPipeline
from model.text import encode_prompts
from training.data.cache import render_clip
from training.noise import generator
from world import captions

FAMILY = "beside"
FIRST_SEED = 2 * 10**6
"""Clips are the scenes from this seed on, which no training and no other benchmark shows."""
BATCH = 16
TIMES = (0.8, 0.9, 0.96, 0.985, 1.0)
OTHER_SIDE = {"left": "right", "right": "left"}

Slots = dict[str, str]
CAPTIONS: dict[str, Callable[[Slots], Slots]] = {
    "true": lambda slots: slots,
    "side": lambda slots: slots | {"direction": OTHER_SIDE[slots["direction"]]},
    "colours": lambda slots: (
        slots | {"colour": slots["other_colour"], "other_colour": slots["colour"]}
    ),
}


@torch.no_grad()
def losses(
    model: VideoPipeline, scenes: list[world.Scene], clean: Tensor, noise: Tensor, t: float
) -> dict[str, Tensor]:
    """The loss of each scene `(B,)` under the true caption and the false ones, at one t."""
    networks = model.components
    times = torch.full((len(scenes),), t)
    target, found = velocity(clean, noise), {}
    for name, change in CAPTIONS.items():
        text = encode_prompts(
            [captions.caption(FAMILY, change(scene.slots), True) for scene in scenes],
            networks.tokenizer,
            networks.text_encoder,
            model.description.max_sequence_length,
        )
        (predicted,) = networks.transformer(
            interpolate(clean, noise, times[:, None, None, None, None]),
            times * TIMESTEP_SCALE,
            text,
            return_dict=False,
        )
        found[name] = (predicted.float() - target).square().flatten(1).mean(1)
    return found


def rows(model: VideoPipeline, clips: int) -> Iterator[dict[str, float]]:
    """Measure at every t, with the same clips and the same noise."""
    scenes = [world.sample(FAMILY, FIRST_SEED + n) for n in range(clips)]
    with torch.no_grad():
        vae = model.components.vae
        clean = torch.cat([encode_video(vae, render_clip(scene)[None]) for scene in scenes])
    noise = torch.cat(
        [
            torch.randn(part.shape, generator=generator("binding", BATCH * number))
            for number, part in enumerate(clean.split(BATCH))
        ]
    )
    for t in TIMES:
        parts: dict[str, list[Tensor]] = {name: [] for name in CAPTIONS}
        for first in range(0, clips, BATCH):
            some = slice(first, first + BATCH)
            for name, loss in losses(model, scenes[some], clean[some], noise[some], t).items():
                parts[name].append(loss)
        found = {name: torch.cat(part) for name, part in parts.items()}
        row = {"t": t} | {f"{name}_loss": float(loss.mean()) for name, loss in found.items()}
        for name in ("side", "colours"):
            row[f"{name}_seen"] = float((found[name] > found["true"]).float().mean())
        yield row


def main() -> None:
    """Measure and print a row a t."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.binding", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("model/pretrained"))
    parser.add_argument("--clips", type=int, default=64, help="how many, 1 or more")
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    options = parser.parse_args()
    if options.clips < 1:
        parser.error(f"--clips is {options.clips}; it must be 1 or more")
    model = VideoPipeline.from_pretrained(options.model)
    found = []
    for row in rows(model, options.clips):
        found.append(row)
        if not options.json:
            print(*(f"{name} {value:.4g}" for name, value in row.items()), sep="\t", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
