"""Our core against diffusers' own classes, on the same weights, turn and turn about in one process.

    python -m benchmarks.core [--json] [-o docs/results/core.json] [--only PART]

The cases are those of core.yaml, one row each: a forward pass, a whole denoising loop under
guidance, latents to an MP4, and a prompt to its MP4. A turn is a pass, a step or a video of one
side; what runs first changes from turn to turn, and a row's `ratio` is diffusers' seconds over
ours, summed, with a bootstrap interval of 95 % over pairs of turns. Ours is the core as the
pipeline uses it: laid out for inference, with the text read and the schedule embedded at the first
step, and that is within the time. `max_abs_diff` is the largest difference of the two answers; of
videos, in shades of 255.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from itertools import count
from pathlib import Path
from typing import Any, cast

import diffusers
import numpy as np
import torch
import yaml
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel
from diffusers.utils import export_to_video
from scipy.stats import bootstrap
from torch import Tensor

from benchmarks.environment import environment, write_results
from model.autoencoder import VideoAutoencoder
from model.components import Components
from model.conditions import Conditions
from model.context import Prompt, Schedule
from model.fast import prepare_for_inference
from model.latents import decode_stream
from model.pipeline import GenerationRequest, VideoPipeline
from model.placement import Placement
from model.request import ResolvedRequest
from model.sampler import denoise
from model.transformer import SpacetimeTransformer
from model.video import recording, write_mp4

CASES = Path(__file__).with_suffix(".yaml")
PATCH = (1, 2, 2)
GUIDANCE = 5.0
PROMPT = "an orange cat with four legs walks left on a room background"

Turns = Iterator[Any]
"""Every item took a turn; the last is the answer."""


@dataclass(frozen=True)
class Race:
    """Two sides that do the same: each call begins anew."""

    ours: Callable[[], Turns]
    theirs: Callable[[], Turns]


@dataclass(frozen=True)
class Row:
    """A line of the report; seconds are of all turns together. See the module."""

    case: str
    dtype: str
    ours_s: float
    theirs_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    max_abs_diff: float
    bar: float | None = None


def run(race: Race, repeats: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Let both take their turns, `repeats` times, after up to two that are not measured."""
    for begin in (race.ours, race.theirs):
        turns = begin()
        next(turns), next(turns, None)
    pairs, answers, order = [], {}, count()
    for _ in range(repeats):
        sides = {"ours": race.ours(), "theirs": race.theirs()}
        while True:
            spent = {}
            for name in ("ours", "theirs") if next(order) % 2 else ("theirs", "ours"):
                begun = clock()
                answer = next(sides[name], None)
                if answer is not None:
                    spent[name], answers[name] = clock() - begun, answer
            if not spent:
                break
            pairs.append((spent["ours"], spent["theirs"]))
    ours, theirs = np.array(pairs).T
    apart = np.abs(np.asarray(answers["ours"], float) - np.asarray(answers["theirs"], float))
    low, high = interval(ours, theirs)
    return {
        "ours_s": round(float(ours.sum()) / repeats, 4),
        "theirs_s": round(float(theirs.sum()) / repeats, 4),
        "ratio": round(float(theirs.sum() / ours.sum()), 3),
        "ratio_low": round(low, 3),
        "ratio_high": round(high, 3),
        "max_abs_diff": float(apart.max()),
    }


def interval(ours: Any, theirs: Any) -> tuple[float, float]:
    """95 % bootstrap interval of theirs over ours in sum, over pairs of turns."""
    found = bootstrap(
        (theirs, ours), lambda a, b, axis: a.sum(axis) / b.sum(axis), paired=True,
        vectorized=True, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class Workload:
    """Both networks on the same weights, and a video for them."""

    ours: Any
    theirs: Any
    noise: Tensor
    text: Tensor
    known: Tensor | None

    @classmethod
    def of(cls, shape: dict[str, Any], case: dict[str, Any]) -> "Workload":
        """Random weights and inputs of a shape of the cases, always the same."""
        dtype, compiled = getattr(torch, case["dtype"]), case.get("compiled", False)
        options = {
            "num_attention_heads": shape["heads"], "attention_head_dim": shape["head_dim"],
            "num_layers": shape["layers"], "ffn_dim": shape["ffn_dim"],
            "text_dim": shape["text_dim"], "in_channels": shape["channels"],
            "out_channels": shape["channels"],
        }  # fmt: skip
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            WanTransformer3DModel(**options).save_pretrained(folder)
            theirs, ours = (
                kind.from_pretrained(folder, torch_dtype=dtype).eval().requires_grad_(False)
                for kind in (WanTransformer3DModel, SpacetimeTransformer)
            )
        prepare_for_inference(ours, compiled=compiled)
        if compiled:
            theirs.compile_repeated_blocks()
        frames, rows, columns = shape["size"]
        text = torch.randn(2, shape["text"], shape["text_dim"])
        text[:, shape["words"] :] = 0
        known = torch.zeros(frames, rows // PATCH[1], columns // PATCH[2], dtype=torch.bool)
        known[0] = True
        noise = torch.randn(1, shape["channels"], *shape["size"])
        return cls(ours, theirs, noise, text.to(dtype), known if case.get("per_token") else None)

    def moment(self, t: Tensor) -> Tensor:
        """A timestep as diffusers takes it: of the clip, or of every token."""
        return t[None] if self.known is None else t * (~self.known).flatten()[None].float()

    def forward(self, repeats: int) -> Race:
        """A pass a turn, all at one timestep."""
        x, t = self.noise.to(self.text.dtype), torch.tensor(500.0)

        def ours() -> Turns:
            prompt, schedule = Prompt(self.text[:1]), Schedule(t[None], self.known)
            for _ in range(repeats):
                yield self.ours(x, schedule[0], prompt, return_dict=False)[0].float()

        def theirs() -> Turns:
            for _ in range(repeats):
                yield self.theirs(x, self.moment(t), self.text[:1], return_dict=False)[0].float()

        return Race(ours, theirs)

    def loop(self, steps: int) -> Race:
        """A step a turn, under guidance, as `WanPipeline` does them."""
        clean = torch.zeros_like(self.noise)
        cells = torch.zeros(1)
        if self.known is not None:
            cells = self.known.repeat_interleave(PATCH[1], 1).repeat_interleave(PATCH[2], 2).float()

        def scheduler() -> Any:
            made = FlowMatchEulerDiscreteScheduler(shift=3.0)
            made.set_timesteps(steps)
            return made

        def ours() -> Turns:
            others = [field.name for field in fields(Components) if field.default is MISSING]
            parts = Components(
                **dict.fromkeys(others)
                | {"transformer": self.ours, "placement": Placement.of("cpu")}  # type: ignore[arg-type]
            )
            given = Conditions() if self.known is None else Conditions(clean, self.known)
            return denoise(parts, _settings(steps), scheduler(), self.noise, self.text, given)

        def theirs() -> Turns:
            turns, latents = scheduler(), self.noise
            for t in turns.timesteps:
                x = ((1 - cells) * latents + cells * clean).to(self.text.dtype)
                seen = []
                for name, rows in zip(("cond", "uncond"), self.text.split(1), strict=True):
                    with self.theirs.cache_context(name):
                        seen.append(self.theirs(x, self.moment(t), rows, return_dict=False)[0])
                velocity = seen[1] + GUIDANCE * (seen[0] - seen[1])
                latents = turns.step(velocity, t, latents, return_dict=False)[0]
                yield (1 - cells) * latents + cells * clean

        return Race(ours, theirs)


def _settings(steps: int) -> ResolvedRequest:
    return ResolvedRequest(
        prompt="", negative_prompt="", height=0, width=0, num_frames=1, fps=8,
        num_inference_steps=steps, guidance_scale=GUIDANCE, guidance_scale_2=GUIDANCE,
        flow_shift=3.0, seed=0, strength=1.0, lora=None,
    )  # fmt: skip


def decoding(told: dict[str, Any], folder: Path) -> Race:
    """Latents to an MP4, a file a turn: one frame after the other, or first all of them."""
    torch.manual_seed(0)
    kind = {"VideoAutoencoder": VideoAutoencoder}.get(told["kind"])
    vae = (kind or getattr(diffusers, told["kind"]))(**told["arguments"]).eval()
    mean, std = (
        torch.tensor(values).view(-1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    latents = torch.randn(told["latents"])

    def ours() -> Turns:
        parts = []
        with recording(folder / "ours.mp4", 8) as sink:
            for frames in decode_stream(vae, latents):
                parts.append(frames.numpy())
                sink(parts[-1])
        yield np.concatenate(parts)

    def theirs() -> Turns:
        video = vae.decode(latents * std + mean, return_dict=False)[0][0]
        frames = (video * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0).numpy()
        write_mp4(folder / "theirs.mp4", frames, 8)
        yield frames

    return Race(ours, theirs)


def generating(checkpoint: str, text: int | None, folder: Path) -> Race:
    """A prompt to its MP4, as `kinetograph generate` and as diffusers' examples make it."""
    pipeline = VideoPipeline.from_pretrained(checkpoint, "cpu")
    described, parts = pipeline.description, pipeline.components
    other = diffusers.WanPipeline.from_pretrained(checkpoint, vae=parts.vae)
    other.set_progress_bar_config(disable=True)
    width, height = (int(side) for side in described.sizes[0].split("x"))
    request = GenerationRequest(PROMPT)
    frames = (described.num_frames[0] - 1) // parts.vae.config.scale_factor_temporal + 1
    side = parts.vae.config.scale_factor_spatial
    noise = torch.randn(1, parts.vae.config.z_dim, frames, height // side, width // side)

    def ours() -> Turns:
        with recording(folder / "ours.mp4", described.fps) as sink:
            *_, video = pipeline.generate(request, noise, sink=sink)
        yield cast(Any, video).frames

    def theirs() -> Turns:
        video = other(
            PROMPT, height=height, width=width, num_frames=described.num_frames[0],
            num_inference_steps=described.num_inference_steps,
            guidance_scale=described.guidance_scale, latents=noise, output_type="np",
            max_sequence_length=text or described.max_sequence_length,
        ).frames[0]  # fmt: skip
        export_to_video(list(video), str(folder / "theirs.mp4"), fps=described.fps)
        yield video * 255

    return Race(ours, theirs)


def rows(cases: dict[str, Any], only: str | None) -> Iterator[Row]:
    """Measure the cases, those of one part if so asked."""
    for part in ("forward", "loop"):
        for case in cases[part] if only in (None, part) else ():
            torch.compiler.reset()
            load = Workload.of(cases["shapes"][case["shape"]], case)
            marks = [m for m in ("compiled", "per_token") if case.get(m)]
            name = " ".join([part, case["shape"], *marks]).replace("_", " ")
            repeats = case["repeats"] if part == "loop" else 1
            race = load.loop(case["steps"]) if part == "loop" else load.forward(case["repeats"])
            yield Row(name, case["dtype"], **run(race, repeats), bar=case.get("bar"))
    with tempfile.TemporaryDirectory() as place:
        for case in cases["decode"] if only in (None, "decode") else ():
            name = f"decode {case['autoencoder']}"
            race = decoding(cases["autoencoders"][case["autoencoder"]], Path(place))
            yield Row(name, "float32", **run(race, case["repeats"]), bar=case.get("bar"))
        for case in cases["pipeline"] if only in (None, "pipeline") else ():
            race = generating(case["checkpoint"], case["text"], Path(place))
            name = f"pipeline, {case['text'] or 'equal'} text rows"
            yield Row(name, "float32", **run(race, case["repeats"]), bar=case.get("bar"))


def main() -> None:
    """Measure every case and print a row each, those below their bar with a mark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.core", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file of environment and rows")
    parser.add_argument("--only", choices=("forward", "loop", "decode", "pipeline"))
    parser.add_argument("--cases", type=Path, default=CASES, help="a YAML file of cases")
    options = parser.parse_args()
    told, found = environment(), []
    with torch.no_grad():
        for row in rows(yaml.safe_load(options.cases.read_text()), options.only):
            found.append(vars(row))
            if not options.json:
                missed = row.bar is not None and row.ratio_low < row.bar
                print(*vars(row).values(), "missed" * missed, sep="\t", flush=True)
            if options.output:
                write_results(options.output, told, found)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
