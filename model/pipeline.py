"""Prompt and conditions in, frames out, with progress and cancel at every step."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.conditions import encode_first_frame, latent_statistics
from model.description import ModelDescription
from model.loading import Components, load
from model.manifest import CheckpointError
from model.request import GenerationRequest, RequestError, ResolvedRequest, resolve
from model.sampler import denoise, make_scheduler
from model.text import encode_prompts

__all__ = [
    "CheckpointError",
    "GenerationRequest",
    "ModelDescription",
    "Progress",
    "RequestError",
    "Video",
    "VideoPipeline",
]

Stage = Literal["text", "denoise", "decode"]


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` of a stage is done, `seconds` of work into it; step 0 says it begins."""

    stage: Stage
    step: int
    steps: int
    seconds: float


@dataclass(frozen=True)
class Video:
    """What was made: frames `(T, H, W, 3)` uint8 RGB, frames a second, seconds spent per stage."""

    frames: NDArray[np.uint8]
    fps: int
    timings: dict[str, float] = field(default_factory=dict)


class VideoPipeline:
    """A checkpoint, open. Several threads may generate at once."""

    def __init__(self, components: Components, description: ModelDescription) -> None:
        self.components = components
        self.description = description
        self._vae_in_use = threading.Lock()  # Wan's autoencoder keeps its causal cache on itself

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> "VideoPipeline":
        """Open a diffusers checkpoint folder of Wan's layout, or fetch one from the hub.

        Args:
            device: CUDA where there is one, else the CPU.
            dtype: of text encoder and transformer: bf16 on CUDA, else fp32. Autoencoder: fp32.

        Raises:
            CheckpointError: if it cannot be opened, with the reason in a sentence.
        """
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
        return cls(*load(folder_or_hub_id, device, dtype))

    def generate(
        self, request: GenerationRequest, latents: Tensor | None = None
    ) -> Generator[Progress | Video, None, None]:
        """Make one video; closing the iterator cancels at the step that it has reached.

        The same request gives the same frames on the same machine. On another it starts from the
        same noise up to its last bits, and torch promises no more for what follows.

        Args:
            request: what to make.
            latents: initial noise `(1, C, T', h, w)` in place of the seed's.

        Returns:
            An iterator over `Progress`, whose last item is the `Video`.

        Raises:
            RequestError: at once, for what this checkpoint cannot do, naming the field, its value
                and what is allowed.
        """
        settings = resolve(request, self.description)
        noise = self.initial_noise(settings)
        if latents is not None:
            if latents.shape != noise.shape:
                shapes = (tuple(latents.shape), f"noise of shape {tuple(noise.shape)}")
                raise RequestError("latents", *shapes)
            noise = latents
        return self._generate(settings, noise)

    def render(self, request: GenerationRequest, latents: Tensor | None = None) -> Video:
        """Make one video, for those who need no progress; takes and raises what `generate` does."""
        *_, video = self.generate(request, latents)
        assert isinstance(video, Video)
        return video

    def _generate(
        self, settings: ResolvedRequest, latents: Tensor
    ) -> Generator[Progress | Video, None, None]:
        clock = _Clock(self.components.vae.device)
        yield clock.progress("text", 0, 1)
        with clock.measure("text"):
            text = self.encode_text(settings)
        yield clock.progress("text", 1, 1)

        scheduler = make_scheduler(settings, self.components.scheduler)
        steps = len(scheduler.timesteps)
        yield clock.progress("denoise", 0, steps)
        with clock.measure("denoise"), self._vae_in_use:
            first_frame = encode_first_frame(self.components, settings)
        trajectory = denoise(self.components, settings, scheduler, latents, text, first_frame)
        for step in range(1, steps + 1):
            with clock.measure("denoise"):
                latents = next(trajectory)
            yield clock.progress("denoise", step, steps)

        yield clock.progress("decode", 0, 1)
        with clock.measure("decode"):
            frames = self.decode(latents)
        yield clock.progress("decode", 1, 1)
        yield Video(frames, settings.fps, dict(clock.seconds))

    def initial_noise(self, settings: ResolvedRequest) -> Tensor:
        """Noise `(1, C, T', h, w)` fp32, drawn on the CPU: a seed means it with any GPU or none.

        torch's CPU kernels may differ in its last bits between instruction sets.
        """
        vae = self.components.vae.config
        stride = vae.scale_factor_spatial
        frames = (settings.num_frames - 1) // vae.scale_factor_temporal + 1
        shape = (1, vae.z_dim, frames, settings.height // stride, settings.width // stride)
        return torch.randn(shape, generator=torch.Generator().manual_seed(settings.seed))

    @torch.no_grad()
    def encode_text(self, settings: ResolvedRequest) -> Tensor:
        """Embed the prompt and, under guidance, the negative prompt: `(1 or 2, L, D)`."""
        parts = self.components
        prompts = [settings.prompt] + [settings.negative_prompt] * settings.guided
        length = self.description.max_sequence_length
        return encode_prompts(prompts, parts.tokenizer, parts.text_encoder, length)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> NDArray[np.uint8]:
        """Turn latents `(1, C, T', h, w)` into frames `(T, H, W, 3)` uint8.

        Raises:
            FloatingPointError: for latents that are not finite, which would decode to noise.
        """
        if not latents.isfinite().all():
            raise FloatingPointError("denoising ended in values that are not finite")
        vae = self.components.vae
        mean, std = latent_statistics(vae)
        with self._vae_in_use:
            video = vae.decode(latents.to(vae.device, vae.dtype) * std + mean, return_dict=False)[0]
        pixels = (video[0].float() * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        frames: NDArray[np.uint8] = pixels.permute(1, 2, 3, 0).contiguous().cpu().numpy()
        return frames


class _Clock:
    """Seconds of work per stage; the time a consumer holds the iterator is not counted."""

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = {}
        self.device = device

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if self.device.type == "cuda":  # progress counts steps that are done, not launched
            torch.cuda.synchronize(self.device)
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def progress(self, stage: Stage, step: int, steps: int) -> Progress:
        return Progress(stage, step, steps, self.seconds.get(stage, 0.0))
