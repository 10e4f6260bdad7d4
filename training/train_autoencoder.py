"""Fit the autoencoder's principal components, then train its decoder.

    python training/train_autoencoder.py --config configs/autoencoder.yaml [key=value ...]

With `init_from` the components (and so every latent) stay as they are and only the decoder learns.
"""

import copy
import json
import math
import sys
import time

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import AdamW

import world
from model.autoencoder import BLOCK, VideoAutoencoder, to_blocks
from training.config import AutoencoderConfig, parse_arguments
from training.data.cache import render_clip
from training.ema import EMA
from training.files import RunInUse, alone, whole_folder
from training.noise import generator

SCALE_FLOOR = 0.08
"""Channels are scaled by at least this share of the largest deviation, so that fine channels do
not outweigh in a loss what they are worth in pixels."""
ABSOLUTE_SHARE = 0.02
"""Weight of the absolute error beside the squared one: edges stay crisp where both are small."""
FOREGROUND_DISTANCE = 0.15
"""A pixel is foreground if it differs by more than this (on -1..1) from its row's median."""


def main(config: AutoencoderConfig) -> None:
    """Run the training that `config` describes."""
    accelerator = Accelerator(mixed_precision=config.precision)
    torch.manual_seed(config.seed)
    if config.init_from:
        autoencoder: VideoAutoencoder = VideoAutoencoder.from_pretrained(config.init_from)
    else:
        autoencoder = fit_components(config)
    encoder = copy.deepcopy(autoencoder)  # stays on the CPU, where clips are rendered
    autoencoder.to(accelerator.device)
    ema = EMA(autoencoder, config.ema_decay)
    trained = [p for p in autoencoder.parameters() if p.requires_grad]
    optimizer = AdamW(trained, lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0)

    report(config, autoencoder, 0)
    started = time.monotonic()
    for step in range(config.steps):
        # Single latent frames, two of each clip, with the frames before them.
        latent, previous, target, foreground = (
            part.to(accelerator.device) for part in batch(config, encoder, step)
        )
        warmup = min(1.0, (step + 1) / config.warmup_steps)
        cooldown = min(1.0, (config.steps - step) / (0.5 * config.steps))
        optimizer.param_groups[0]["lr"] = config.lr * warmup * cooldown
        with accelerator.autocast():
            decoded = autoencoder.decode_blocks(latent, previous).float()
        error = decoded - target
        weight = 1 + config.foreground_weight * foreground
        loss = (weight * (error.square() + ABSOLUTE_SHARE * error.abs())).mean()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()
        if (step + 1) % config.log_every == 0:
            minutes = (time.monotonic() - started) / 60
            left = minutes / (step + 1) * (config.steps - step - 1)
            print(
                f"step {step + 1}/{config.steps} loss {loss.item():.4f} "
                f"{minutes:.1f} min, about {left:.0f} min left",
                flush=True,
            )
        if (step + 1) % config.eval_every == 0 or step + 1 == config.steps:
            with ema.swapped():
                report(config, autoencoder, step + 1)
                save(config, autoencoder)
    if not config.steps:
        save(config, autoencoder)


def save(config: AutoencoderConfig, autoencoder: VideoAutoencoder) -> None:
    """Write the run's `vae/`, whole or not at all."""
    with whole_folder(config.run / "vae") as partial:
        autoencoder.save_pretrained(partial)


def fit_components(config: AutoencoderConfig) -> VideoAutoencoder:
    """Return an autoencoder whose linear code is the PCA of the world's pixel blocks."""
    total, outer, count = torch.zeros(BLOCK).double(), torch.zeros(BLOCK, BLOCK).double(), 0
    for index in range(config.component_clips):
        video = render(config, "components", index)
        blocks = to_blocks(video[None]).movedim(1, -1).reshape(-1, BLOCK).double()
        total += blocks.sum(0)
        outer += blocks.T @ blocks
        count += len(blocks)
    mean = total / count
    values, vectors = torch.linalg.eigh(outer / count - torch.outer(mean, mean))
    components = vectors.T.flip(0)[: config.z_dim]
    std = values.flip(0)[: config.z_dim].clamp_min(0).sqrt()
    autoencoder: VideoAutoencoder = VideoAutoencoder(
        z_dim=config.z_dim,
        hidden_channels=config.hidden_channels,
        num_blocks=config.num_blocks,
        latents_mean=(0.0,) * config.z_dim,
        latents_std=tuple(std.clamp_min(SCALE_FLOOR * std[0]).tolist()),
    )
    autoencoder.set_principal_components(mean.float(), components.float())
    return autoencoder


def render(config: AutoencoderConfig, purpose: str, index: int) -> Tensor:
    """Return pixels `(3, T, H, W)` of a clip of the families in turn, keyed by purpose and index.

    Every purpose has world seeds of its own, far from those of the transformer's clips.
    """
    pick = torch.randint(2**40, 2**41, (), generator=generator(config.seed, purpose, index))
    family = config.families[index % len(config.families)]
    return render_clip(world.sample(family, int(pick), held_out=purpose == "evaluation"))


@torch.no_grad()
def batch(
    config: AutoencoderConfig, autoencoder: VideoAutoencoder, step: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return noisy latents, the ones before them, pixel blocks and their foreground mask.

    Two latent frames of each rendered clip are used; shapes `(N, z_dim, h, w)` twice and
    `(N, 192, h, w)` twice.
    """
    latents, before, targets, masks = [], [], [], []
    std = torch.tensor(autoencoder.config.latents_std).view(-1, 1, 1)
    for i in range(config.batch // 2):
        video = render(config, "training", step * (config.batch // 2) + i)[None]
        z = autoencoder.to_latents(video)[0]
        blocks, mask = to_blocks(video)[0], to_blocks(foreground(video))[0]
        g = generator(config.seed, "frames", step, i)
        for frame in torch.randperm(z.shape[1], generator=g)[:2].tolist():
            noise = torch.randn((2, *z[:, frame].shape), generator=g) * config.latent_noise * std
            latents.append(z[:, frame] + noise[0])
            before.append(z[:, max(frame - 1, 0)] + noise[1 if frame else 0])
            targets.append(blocks[:, frame])
            masks.append(mask[:, frame])
    return torch.stack(latents), torch.stack(before), torch.stack(targets), torch.stack(masks)


def foreground(video: Tensor) -> Tensor:
    """Return 1 where a pixel of `(B, 3, T, H, W)` differs from the median of its row, else 0.

    The median is over a clip's frames and columns, channel by channel.
    """
    rows = video.transpose(2, 3).flatten(3).median(dim=3).values  # (B, 3, H)
    distance = (video - rows[:, :, None, :, None]).abs().amax(dim=1, keepdim=True)
    return (distance > FOREGROUND_DISTANCE).expand_as(video).float()


@torch.no_grad()
def evaluate(config: AutoencoderConfig, autoencoder: VideoAutoencoder) -> dict[str, float]:
    """Return PSNR in dB on held-out clips, over all and over foreground pixels, by family too."""
    errors: dict[str, list[tuple[float, float, float, float]]] = {}
    for index in range(config.eval_clips):
        video = render(config, "evaluation", index)[None]
        decoded = autoencoder.to_video(autoencoder.to_latents(video))
        square = ((decoded.clamp(-1, 1) - video) / 2).square()
        mask = foreground(video)
        sums = (square.sum(), square.numel(), (square * mask).sum(), mask.sum())
        errors.setdefault(config.families[index % len(config.families)], []).append(
            tuple(float(x) for x in sums)  # type: ignore[arg-type]
        )
    return {
        name: round(-10 * math.log10(value), 2) for name, value in _mean_squares(errors).items()
    }


def _mean_squares(errors: dict[str, list[tuple[float, float, float, float]]]) -> dict[str, float]:
    means = {}
    groups = {"all": [row for rows in errors.values() for row in rows], **errors}
    for name, rows in groups.items():
        square, count, front, front_count = (sum(column) for column in zip(*rows, strict=True))
        means[f"{name} psnr"] = square / count
        means[f"{name} foreground psnr"] = front / front_count
    return means


def report(config: AutoencoderConfig, autoencoder: VideoAutoencoder, step: int) -> None:
    """Print and append the evaluation at `step`."""
    row = {"step": step, **evaluate(config, copy.deepcopy(autoencoder).cpu())}
    with (config.run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(row, flush=True)


if __name__ == "__main__":
    resolved = parse_arguments(AutoencoderConfig, __doc__ or "")
    if resolved.init_from and not (resolved.init_from / "config.json").is_file():
        sys.exit(f"train_autoencoder.py: init_from: {resolved.init_from} holds no autoencoder")
    try:
        with alone(resolved.run):
            main(resolved)
    except RunInUse as error:
        sys.exit(f"train_autoencoder.py: {error}")
