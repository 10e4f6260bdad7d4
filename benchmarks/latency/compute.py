"""How much of a device's peak a server's denoising reaches."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.latency.client import Sample


@dataclass(frozen=True)
class Compute:
    """What a video of a checkpoint takes, and what its device could do.

    Attributes:
        parameters: P of the network, of one where there are two experts.
        layers, width: n blocks of d channels.
        pixels: of a frame that make a token.
        frames_per_latent: frames that each latent frame after the first stands for.
        peak: operations a second of the device.
    """

    parameters: int
    layers: int
    width: int
    pixels: int
    frames_per_latent: int
    peak: float

    @classmethod
    def of(cls, checkpoint: str, peak: float) -> "Compute":
        """Read a checkpoint's configurations; its weights are not opened."""
        from model.loading import outline  # torch, which no other figure needs
        from model.placement import Placement

        parts, _ = outline(Path(checkpoint), Placement.of("cpu"))
        config, vae = parts.transformer.config, parts.vae.config
        _, rows, columns = config.patch_size
        return cls(
            parameters=sum(p.numel() for p in parts.transformer.parameters()),
            layers=config.num_layers,
            width=config.num_attention_heads * config.attention_head_dim,
            pixels=vae.scale_factor_spatial**2 * rows * columns,
            frames_per_latent=vae.scale_factor_temporal,
            peak=peak,
        )

    def flops(self, sample: Sample) -> float | None:
        """Steps · passes of guidance · (2·P·L + 4·n·L²·d) for L tokens; None if it is not told.

        A multiply-accumulate is two operations; the autoencoder does not count.
        """
        if not (sample.size and sample.frames and sample.steps):
            return None
        width, height = map(int, sample.size.split("x"))
        frames = (sample.frames - 1) // self.frames_per_latent + 1
        tokens = width * height // self.pixels * frames
        passes = 1 if sample.guidance == 1 else 2
        pairs = 4 * self.layers * tokens**2 * self.width
        return float(sample.steps * passes * (2 * self.parameters * tokens + pairs))

    def mfu(self, samples: Sequence[Sample]) -> float | None:
        """Median share of the peak while denoising, by the server's own clock."""
        shares = [
            flops / (sample.timings["denoise"] * self.peak)
            for sample in samples
            if sample.timings.get("denoise") and (flops := self.flops(sample)) is not None
        ]
        return float(np.median(shares)) if shares else None
