"""What a GPU makes of the core, beside diffusers on the same weights, in so many minutes.

    python -m benchmarks.gpu --minutes 9 --out docs/results/gpu

needs torch and diffusers besides this repository. What matters most comes first, and `report.json`
and `report.md` are written after every row, so that it may be cut off at any time; what fails is a
row that says why. Rows of one comparison are timed turn and turn about, by medians. Without a GPU
everything is run on tiny shapes, which proves the code and measures nothing.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor

from benchmarks.environment import environment
from model import kernels
from model.attention import attend, backend
from model.backends import INSTALLED, KERNELS, NAMES, Problem, is_hopper, misfit
from model.context import Prompt, Schedule
from model.fast import prepare_for_inference, restore
from model.latents import decode_stream
from model.rope import rotary_table
from model.tokens import Segments, Tokens, pack
from model.transformer import SpacetimeTransformer
from training.speed import Cost, peak_flops

Row = dict[str, Any]
Work = Callable[[], object]
BF16 = torch.bfloat16


@dataclass(frozen=True)
class Size:
    """A network and a video; `goal` is the seconds that a guided step may take on an H200."""

    heads: int
    head_dim: int
    layers: int
    ffn_dim: int
    channels: int
    latents: tuple[int, int, int]
    text: int
    goal: float | None = None
    per_token: bool = False

    @property
    def width(self) -> int:
        return self.heads * self.head_dim

    @property
    def tokens(self) -> int:
        frames, rows, columns = self.latents
        return frames * (rows // 2) * (columns // 2)


FULL = {
    "1.3B 832x480x81": Size(12, 128, 30, 8960, 16, (21, 60, 104), 512, 1.0),
    "TI2V-5B 1280x704x121": Size(24, 128, 30, 14336, 48, (31, 44, 80), 512, 1.9, True),
    "14B block 1280x720x81": Size(40, 128, 1, 13824, 16, (21, 90, 160), 512, 21 / 40),
}
TINY = {
    name: Size(2, 24, 2, 64, 5, (2, 4, 6), 9, None, size.per_token) for name, size in FULL.items()
}


class Bench:
    """Where and how long to measure, and what was found so far."""

    def __init__(self, folder: Path, minutes: float) -> None:
        self.dry = not torch.cuda.is_available()
        self.device = torch.device("cpu" if self.dry else "cuda")
        self.sizes = TINY if self.dry else FULL
        self.turns = 2 if self.dry else 5
        self.end = time.monotonic() + 60 * minutes
        self.folder = folder
        self.report: Row = {"dry": self.dry, "environment": environment(), "rows": []}

    def add(self, **row: Any) -> None:
        """Write a row down, at once and wholly."""
        self.report["rows"].append(row)
        self.folder.mkdir(parents=True, exist_ok=True)
        files = {"report.json": json.dumps(self.report, indent=1), "report.md": table(self.report)}
        for name, text in files.items():
            beside = self.folder / f"{name}.part"
            beside.write_text(text + "\n")
            beside.rename(self.folder / name)
        print(*(f"{name} {value}" for name, value in row.items()), sep="\t", flush=True)

    def seconds(self, **work: Work) -> dict[str, float]:
        """Median seconds of each, in turns, after one that is not counted."""
        spent: dict[str, list[float]] = {name: [] for name in work}
        for turn in range(1 + self.turns):
            names = list(work) if turn % 2 else list(work)[::-1]
            for name in names:
                self.wait()
                begun = time.perf_counter()
                work[name]()
                self.wait()
                if turn:
                    spent[name].append(time.perf_counter() - begun)
        return {name: statistics.median(found) for name, found in spent.items()}

    def wait(self) -> None:
        """Until the device has done what it was asked."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def random(self, *shape: int, dtype: torch.dtype = BF16) -> Tensor:
        """Normal numbers on the device."""
        return torch.randn(shape, device=self.device, dtype=dtype)


def table(report: Row) -> str:
    """The report in Markdown."""
    told = report["environment"]
    lines = ["# A GPU's day", "", f"{told['hardware']}; {json.dumps(told['versions'])}", ""]
    if report["dry"]:
        lines += ["**A dry run on tiny shapes without a GPU: the figures mean nothing.**", ""]
    lines += ["| what | case | figures |", "|---|---|---|"]
    for row in report["rows"]:
        rest = {k: v for k, v in row.items() if k not in ("what", "case")}
        figures = ", ".join(
            f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rest.items()
        )
        lines.append(f"| {row['what']} | {row.get('case', '')} | {figures} |")
    return "\n".join(lines)


def peaks(bench: Bench) -> Iterator[Row]:
    """What the device really does: a bf16 product, and bytes copied within its memory."""
    side, size = (64, 2**16) if bench.dry else (8192, 2**30)
    a, b = bench.random(side, side), bench.random(side, side)
    source = torch.empty(size, dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    found = bench.seconds(product=lambda: a @ b, copy=lambda: target.copy_(source))
    yield {"case": f"bf16 product {side}", "tflops": 2 * side**3 / found["product"] / 1e12}
    yield {"case": f"copy {size} bytes", "gb_per_s": 2 * size / found["copy"] / 1e9}


def networks(bench: Bench, size: Size) -> tuple[Any, Any]:
    """Ours and diffusers', with the same random weights, in bf16 but for what stays fp32."""
    options = {
        "num_attention_heads": size.heads, "attention_head_dim": size.head_dim,
        "num_layers": size.layers, "ffn_dim": size.ffn_dim, "in_channels": size.channels,
        "out_channels": size.channels, "text_dim": 32 if bench.dry else 4096,
    }  # fmt: skip
    torch.manual_seed(0)
    with bench.device:
        theirs, ours = WanTransformer3DModel(**options), SpacetimeTransformer(**options)
    ours.load_state_dict(theirs.state_dict())
    kept = set(ours._keep_in_fp32_modules)
    for network in (theirs, ours):
        network.eval().requires_grad_(False)
        for name, weight in network.named_parameters():
            if not kept & set(name.split(".")):
                weight.data = weight.data.to(BF16)
    return ours, theirs


def compile_blocks(bench: Bench, *networks: Any) -> None:
    """Compile every block, after forgetting all other graphs: there are only so many of one
    function. In a dry run they are traced only."""
    torch.compiler.reset()
    for block in (block for network in networks for block in network.blocks):
        block.compile(backend="eager" if bench.dry else "inductor")


def step(bench: Bench, name: str) -> Iterator[Row]:
    """A step under guidance: eager against eager, compiled against compiled."""
    size = bench.sizes[name]
    ours, theirs = networks(bench, size)
    noise = bench.random(1, size.channels, *size.latents)
    text = bench.random(2, size.text, ours.config.text_dim)
    text[:, size.text // 4 :] = 0
    t = torch.full((1,), 500.0, device=bench.device)
    known, moment = None, t
    if size.per_token:
        frames, rows, columns = size.latents
        known = torch.zeros(frames, rows // 2, columns // 2, dtype=torch.bool, device=bench.device)
        known[0] = True
        moment = t * (~known).flatten()[None].float()
    prompts, schedule = [Prompt(rows) for rows in text.split(1)], Schedule(t, known)

    def our_step() -> list[Tensor]:
        return [ours(noise, schedule[0], prompt, return_dict=False)[0] for prompt in prompts]

    def their_step() -> list[Tensor]:
        return [theirs(noise, moment, rows, return_dict=False)[0] for rows in text.split(1)]

    segments = Segments((size.tokens,))
    values = bench.random(size.tokens, size.heads, size.head_dim)
    for mode in ("eager", "compiled"):
        prepare_for_inference(ours, compiled=mode == "compiled")
        if mode == "compiled":
            compile_blocks(bench, ours, theirs)
        schedule.kept.clear()  # it is of one layout
        for prompt in prompts:
            prompt.kept.clear()
        apart = [float((a - b).float().norm() / b.float().norm())
                 for a, b in zip(our_step(), their_step(), strict=True)]  # fmt: skip
        found = bench.seconds(ours=our_step, theirs=their_step)
        row: Row = {"case": f"{name} {mode}", "ours_s": found["ours"], "theirs_s": found["theirs"]}
        row |= {"ratio": found["theirs"] / found["ours"], "apart": max(apart)}
        if size.goal is not None:
            row |= {"goal_s": size.goal, "met": found["ours"] <= size.goal}
        yield row | {"attention": backend(segments, segments, values), "tokens": size.tokens}
        restore(ours)


def kernel_checks(bench: Bench) -> Iterator[Row]:
    """The largest difference from fp64 of what one kernel does, over the largest value."""
    tokens, heads, head_dim = (5, 2, 12) if bench.dry else (4097, 12, 128)
    width = heads * head_dim
    x, update = bench.random(2, 1, tokens, width)
    gate, weight, bias = bench.random(3, 2, width, dtype=torch.float32)
    index = torch.arange(tokens, device=bench.device) % 2
    wide = (x.double() + gate[index].double() * update.double()).to(BF16).double()
    centred = wide - wide.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    truth = normed * weight[index].double() + bias[index].double()
    told = (gate, weight, bias, index, 1e-6, torch.float32)
    _, found = kernels.add_norm(x.clone(), update, *told)
    yield {"case": "add_norm", "apart": float((found - truth).abs().max() / truth.abs().max())}

    rows = bench.random(tokens, 3, width)[:, :2]
    angles = rotary_table(bench.random(tokens, 3, dtype=torch.float32) * 20, head_dim)
    wide = rows.double()
    normed = wide / (wide.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight.double()
    a, b = normed.unflatten(2, (heads, 2, -1)).unbind(3)
    cos, sin = angles.double()[:, None, None].unbind(-1)
    truth = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    found = kernels.norm_rotate(rows.clone(), weight, angles, 1e-6, torch.float32, halves=True)
    yield {"case": "norm_rotate", "apart": float((found - truth).abs().max() / truth.abs().max())}


def attention(bench: Bench) -> Iterator[Row]:
    """Every backend that is installed, by length; 12 heads of 128."""
    heads, head_dim = (2, 8) if bench.dry else (12, 128)
    for length in (16, 32) if bench.dry else (1024, 4096, 16384, 32760):
        q, k, v = bench.random(3, length, heads, head_dim)
        segments = Segments((length,))
        problem = Problem(
            bench.device.type, is_hopper(bench.device), BF16, head_dim, False, segments, segments
        )
        work: dict[str, Work] = {"sdpa": lambda q=q, k=k, v=v, s=segments: attend(q, k, v, s, s)}  # type: ignore[misc]
        for name in NAMES:
            if name in KERNELS and name in INSTALLED and misfit(name, problem) is None:
                work[name] = lambda f=KERNELS[name], a=(q, k, v, segments, segments): f(*a)  # type: ignore[misc]
        flops = 4 * length**2 * heads * head_dim
        found = bench.seconds(**work)
        yield {"case": f"{length} tokens"} | {
            f"{k} TFLOP/s": flops / s / 1e12 for k, s in found.items()
        }


def packed(bench: Bench) -> Iterator[Row]:
    """One kernel over many segments against one call for each, by their mean length."""
    heads, head_dim, total = (2, 8, 64) if bench.dry else (12, 128, 65536)
    for mean in (8, 16) if bench.dry else (256, 512, 1024, 1500, 2048, 4096, 8192):
        count = total // mean
        lengths = tuple(mean + (-1) ** n * (mean // 4) for n in range(count - count % 2))
        segments = Segments(lengths)
        q, k, v = bench.random(3, segments.total, heads, head_dim)
        problem = Problem(
            bench.device.type, is_hopper(bench.device), BF16, head_dim, False, segments, segments
        )

        def each(q: Tensor = q, k: Tensor = k, v: Tensor = v, s: Segments = segments) -> None:
            for a, b, c in zip(*(x.split(s.lengths) for x in (q, k, v)), strict=True):
                one = Segments((len(a),))
                attend(a, b, c, one, one)

        work: dict[str, Work] = {"each": each}
        for name in ("xformers", "varlen"):
            if name in INSTALLED and misfit(name, problem) is None:
                work[name] = lambda f=KERNELS[name], a=(q, k, v, segments, segments): f(*a)  # type: ignore[misc]
        found = bench.seconds(**work)
        yield {"case": f"mean {mean}"} | {f"{name} ms": 1e3 * s for name, s in found.items()}


def training(bench: Bench) -> Iterator[Row]:
    """Forward, backward and AdamW of the 1.3B network over packed clips, compiled by blocks."""
    size = bench.sizes["1.3B 832x480x81"]
    ours, _ = networks(bench, size)
    ours.requires_grad_(True).train().enable_gradient_checkpointing()
    compile_blocks(bench, ours)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-5, fused=True)
    latents = bench.random(1, size.channels, *size.latents)
    t = torch.full((1,), 500.0, device=bench.device)
    tokens = pack([Tokens.from_latents(latents, t, (1, 2, 2))])
    text = bench.random(size.text, ours.config.text_dim)

    def train() -> None:
        out = ours.forward_tokens(tokens, text, Segments((size.text,)))
        out.float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    found = bench.seconds(train=train)["train"]
    cost = Cost(size.width, size.ffn_dim, size.layers, size.text).flops([size.tokens])
    row: Row = {"case": "1.3B, a clip", "step_s": found, "tokens_per_s": size.tokens / found}
    peak = peak_flops(bench.device)
    yield row | ({"mfu": cost / found / peak, "goal_mfu": 0.45} if peak else {})


def decoding(bench: Bench) -> Iterator[Row]:
    """Wan2.1's autoencoder: all at once or frame by frame, fp32 or bf16, channels last."""
    options: Row = {"base_dim": 8, "num_res_blocks": 1} if bench.dry else {}
    shape = (1, 16, 2, 4, 6) if bench.dry else (1, 16, 21, 60, 104)
    for dtype in (torch.float32, BF16):
        with bench.device:
            vae = AutoencoderKLWan(**options).to(dtype).eval().requires_grad_(False)
        z = bench.random(*shape, dtype=dtype)
        for layout in ("contiguous", "channels last"):
            if layout == "channels last":
                for module in vae.modules():
                    if isinstance(module, torch.nn.Conv3d):
                        module.weight.data = module.weight.contiguous(
                            memory_format=torch.channels_last_3d
                        )
            found = bench.seconds(
                theirs=lambda vae=vae, z=z: vae.decode(z, return_dict=False),  # type: ignore[misc]
                stream=lambda vae=vae, z=z: [frames for frames in decode_stream(vae, z)],  # type: ignore[misc]
            )
            yield {"case": f"{dtype} {layout}".removeprefix("torch.")} | {
                f"{name}_s": spent for name, spent in found.items()
            }


def sections(bench: Bench) -> Iterator[tuple[str, Iterator[Row]]]:
    """Everything, in the order in which it matters."""
    names = list(bench.sizes)
    yield "peaks", peaks(bench)
    yield "kernels", kernel_checks(bench)
    yield "step", step(bench, names[0])
    yield "attention", attention(bench)
    yield "step", step(bench, names[2])
    yield "step", step(bench, names[1])
    yield "training", training(bench)
    yield "packed", packed(bench)
    yield "decoding", decoding(bench)


def measure(bench: Bench) -> None:
    """Go through all sections while there is time; what fails is told, and the rest goes on."""
    for what, found in sections(bench):
        try:
            with torch.set_grad_enabled(what == "training"):
                while time.monotonic() < bench.end and (row := next(found, None)) is not None:
                    bench.add(what=what, **row)
        except Exception as error:
            bench.add(what=what, error=f"{type(error).__name__}: {str(error):.300}")
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    """Measure for so many minutes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.0, help="after which no row is begun")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    options = parser.parse_args()
    measure(Bench(options.out, options.minutes))


if __name__ == "__main__":
    main()
