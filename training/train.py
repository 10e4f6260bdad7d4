"""Train the spacetime transformer and its text encoder by rectified flow.

    accelerate launch training/train.py --config configs/toy.yaml [key.sub=value ...]

A run folder that already holds a state is gone on with. SIGTERM and SIGINT, sent to this process,
end the step under way and save.
"""

import json
import math
import signal
import sys
import time
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from model.flow import interpolate, sample_timesteps, velocity
from training import checkpoint
from training.config import ConfigError, TrainConfig, parse_arguments
from training.data.cache import open_dataset
from training.data.sampler import draw
from training.ema import EMA
from training.files import RunInUse, alone
from training.network import TextToVideo, build, build_world_tokenizer, check_start, export
from training.noise import generator
from training.optim import build_optimizers, schedule, set_rates
from training.samples import write_sheet
from training.state import TrainState


def main(config: TrainConfig) -> None:
    """Run the training that `config` describes."""
    accelerator = Accelerator(mixed_precision=config.precision)
    if accelerator.num_processes > 1:
        sys.exit(f"{accelerator.num_processes} processes; allowed is one: --num_processes 1")
    check_start(config)
    torch.manual_seed(config.seed)

    # Data: rendered and encoded once, then memory-mapped.
    dataset = open_dataset(config.data)
    tokenizer = build_world_tokenizer(config)
    token_ids, masks = tokenize(tokenizer, ["", *dataset.captions], config)

    # Network, optimizers and the one object that owns what a resume needs.
    network = build(config, tokenizer, channels=dataset.clips.shape[2]).to(accelerator.device)
    state = TrainState(
        network=network,
        optimizers=build_optimizers(network, config.optim),
        ema=EMA(network, config.optim.ema_decay),
    )
    resumed = checkpoint.load_latest(config.run, state)
    if config.compile:
        for block in network.transformer.blocks:
            block.compile(dynamic=False)  # two shapes, images and clips, each its own graph
    model = accelerator.prepare(network)
    start_run(config, network, resumed, state.step)

    stop = StopSignal()
    started, first_step = time.monotonic(), state.step
    while state.step < config.steps and not stop.received:
        step_started = time.monotonic()
        factor = schedule(state.step, config.steps, config.optim)
        set_rates(state.optimizers, factor, config.optim)

        # The step's samples; order and noise depend on keys alone.
        images = is_image_step(config, state.step)
        count = config.batch.images if images else config.batch.clips
        ids = draw(config.seed, state.cursor, count, len(dataset))
        clean = dataset.image_latents(ids) if images else dataset.clip_latents(ids)
        noise, t, rows = draw_noise(config, state.step, ids, clean)

        # Rectified flow: from x_t and t, predict the velocity from data to noise.
        noisy = interpolate(clean, noise, t.view(-1, 1, 1, 1, 1))
        noisy, t = noisy.to(accelerator.device), t.to(accelerator.device)
        text, mask = token_ids[rows].to(accelerator.device), masks[rows].to(accelerator.device)
        with accelerator.autocast():
            predicted = model(noisy, t, text, mask)
        target = velocity(clean, noise).to(accelerator.device)
        loss = (predicted - target).square().mean()
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(network.parameters(), config.optim.max_grad_norm)
        if not math.isfinite(loss.item() + norm.item()):
            sys.exit(
                f"step {state.step + 1}: loss {loss.item()}, gradient norm {norm.item()}; "
                "stopped before they reached the weights"
            )
        for optimizer in state.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        state.ema.update()
        state.step += 1
        state.cursor += count

        seconds = time.monotonic() - step_started
        tokens = clean[0, 0].numel() // math.prod(network.transformer.config.patch_size) * count
        row = {
            "step": state.step,
            "kind": "images" if images else "clips",
            "loss": loss.item(),
            "grad_norm": norm.item(),
            "tokens": tokens,
            "tokens_per_s": tokens / seconds,
            "clips_per_s": count / seconds,
            "lr": config.optim.lr * factor,
        }
        elapsed = time.monotonic() - started
        left = elapsed / (state.step - first_step) * (config.steps - state.step)
        log(config, row, elapsed, left)
        if state.step % config.save_every == 0:
            checkpoint.save(config.run, state)
        if state.step % config.sample_every == 0 and state.step < config.steps:
            export_average(config, network, state, tokenizer, draw_sheet=True)

    checkpoint.save(config.run, state)
    export_average(config, network, state, tokenizer, draw_sheet=not stop.received)
    verb = "stopped by a signal" if stop.received else "done"
    print(f"{verb} at step {state.step}; checkpoint in {config.run / 'checkpoint'}")
    accelerator.end_training()


def tokenize(
    tokenizer: PreTrainedTokenizerFast, captions: list[str], config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """Return ids and masks `(1 + N, L)`; row 0 is the empty prompt that text dropout uses."""
    encoded = tokenizer(
        captions,
        padding="max_length",
        max_length=config.network.max_sequence_length,
        truncation=True,
        return_tensors="pt",
    )
    return encoded.input_ids, encoded.attention_mask


def is_image_step(config: TrainConfig, step: int) -> bool:
    """Tell whether a step trains on single frames."""
    if step < config.batch.image_steps:
        return True
    pick = torch.rand((), generator=generator(config.seed, "kind", step))
    return bool(pick < config.batch.image_share)


def draw_noise(
    config: TrainConfig, step: int, ids: Tensor, clean: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw each sample's noise, timestep and caption row, keyed by seed, step and sample id.

    Returns:
        noise like `clean`; t `(B,)`; rows of the token table `(B,)`, 0 where text is dropped.
    """
    noise, times, rows = [], [], []
    flow = config.flow
    for sample_id in ids.tolist():
        g = generator(config.seed, "sample", step, sample_id)
        noise.append(torch.randn(clean.shape[1:], generator=g))
        times.append(sample_timesteps(1, flow.logit_mean, flow.logit_std, flow.uniform_share, g))
        dropped = torch.rand((), generator=g) < config.batch.text_dropout
        rows.append(0 if dropped else 1 + sample_id)
    return torch.stack(noise), torch.cat(times), torch.tensor(rows)


class StopSignal:
    """Remembers that SIGTERM or SIGINT came, so that the step under way ends and is saved."""

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: Any) -> None:
        self.received = True


def start_run(config: TrainConfig, network: TextToVideo, resumed: bool, step: int) -> None:
    """Note the resolved configuration and the step it holds from, and say what is about to run."""
    with (config.run / "configs.jsonl").open("a") as file:
        file.write(json.dumps({"from_step": step, **config.model_dump(mode="json")}) + "\n")
    metrics = config.run / "metrics.jsonl"
    if metrics.exists():  # steps after the state that is gone on from are taken again
        rows = metrics.read_text().splitlines(keepends=True)
        metrics.write_text("".join(row for row in rows if json.loads(row)["step"] <= step))
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    verb = f"resuming at step {step}" if resumed else "starting"
    print(f"{verb}: {millions:.1f}M parameters, {config.steps} steps, run folder {config.run}")


def log(config: TrainConfig, row: dict[str, Any], elapsed: float, left: float) -> None:
    """Append a row to metrics.jsonl and, every `log_every` steps, print it with the time left."""
    with (config.run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    if row["step"] % config.log_every == 0:
        print(
            f"step {row['step']}/{config.steps} {row['kind']} loss {row['loss']:.4f} "
            f"grad {row['grad_norm']:.2f} {row['clips_per_s']:.1f} clips/s "
            f"{elapsed / 60:.1f} min, about {left / 60:.0f} min left",
            flush=True,
        )


def export_average(
    config: TrainConfig,
    network: TextToVideo,
    state: TrainState,
    tokenizer: PreTrainedTokenizerFast,
    draw_sheet: bool,
) -> None:
    """Write the averaged weights as the run's `checkpoint/`; draw a contact sheet with them."""
    folder = config.run / "checkpoint"
    with state.ema.swapped():
        export(folder, network, tokenizer, config)
    if draw_sheet:
        write_sheet(folder, config.run / f"samples_{state.step:07d}.png")


if __name__ == "__main__":
    resolved = parse_arguments(TrainConfig, __doc__ or "")
    try:
        with alone(resolved.run):
            main(resolved)
    except (ConfigError, RunInUse, checkpoint.StateMismatch) as error:
        sys.exit(f"train.py: {error}")
