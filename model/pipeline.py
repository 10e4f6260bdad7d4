"""Prompt and conditions in, frames out, with progress and cancel at every step."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.components import Components
from model.conditions import encode_conditions, with_given
from model.description import ModelDescription
from model.latents import decode_stream
from model.loading import load
from model.lora import Loras, lora_names
from model.manifest import CheckpointError
from model.placement import Offload, Placement
from model.preview import estimate, stills
from model.request import GenerationRequest, RequestError, ResolvedRequest, resolve
from model.sampler import add_noise, denoise, make_scheduler, remaining_timesteps
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
Preview = Callable[[], NDArray[np.uint8]]
Sink = Callable[[NDArray[np.uint8]], object]


@dataclass(frozen=True)
class Progress:
    """`step` of `steps` of a stage is done, `seconds` of work into it; step 0 says it begins.

    preview: draws a few stills `(n, H, W, 3)` uint8 of where it seems to lead, if it is called
    before the next step; None where there is nothing to see, or a network would have to move.
    """

    stage: Stage
    step: int
    steps: int
    seconds: float
    preview: Preview | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Video:
    """What was made: frames `(T, H, W, 3)` uint8 RGB, frames a second, seconds spent per stage."""

    frames: NDArray[np.uint8]
    fps: int
    timings: dict[str, float] = field(default_factory=dict)


class VideoPipeline:
    """A checkpoint, open. Several threads may generate at once, unless weights are offloaded.

    `loras` is a folder of adapters that requests may name.
    """

    def __init__(
        self, components: Components, description: ModelDescription, loras: Path | None = None
    ) -> None:
        self.components = components
        self.description = replace(description, loras=lora_names(loras))
        self._loras = Loras(loras, components.networks)
        self._encoding = threading.Lock()  # Wan's autoencoder keeps its causal cache on itself

    @classmethod
    def from_pretrained(
        cls,
        folder_or_hub_id: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        offload: Offload = "none",
        text_device: str | torch.device | None = None,
        text_int8: bool = False,
        loras: Path | None = None,
        compiled: bool = False,
    ) -> "VideoPipeline":
        """Open a diffusers checkpoint folder of Wan's layout, or fetch one from the hub.

        Args:
            device: CUDA where there is one, else the CPU.
            dtype: of text encoder and transformer: bf16 on CUDA, else fp32. Autoencoder: fp32.
            offload, text_device, text_int8, compiled: as in `Placement`.
            loras: folder of adapters that requests may name.

        Raises:
            CheckpointError: if it cannot be opened, with the reason in a sentence.
        """
        placement = Placement.of(device, dtype, offload, text_device, text_int8, compiled)
        return cls(*load(folder_or_hub_id, placement), loras)

    def generate(
        self,
        request: GenerationRequest,
        latents: Tensor | None = None,
        sink: Sink | None = None,
    ) -> Generator[Progress | Video, None, None]:
        """Make one video; closing the iterator cancels at the step that it has reached.

        The same request gives the same frames on the same machine. On another it starts from the
        same noise up to its last bits, and torch promises no more for what follows.

        Args:
            request: what to make.
            latents: initial noise `(1, C, T', h, w)` in place of the seed's.
            sink: is given the frames of the video, part by part, as soon as they are decoded.

        Returns:
            An iterator over `Progress`, whose last item is the `Video`. Its frames are the
            `num_frames` of the request; but a prefix or suffix stands in it whole, with new frames
            behind or before it or between them, and a loop ends one frame early: before the one
            that it begins with (`model.conditions.with_given`).

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
        return self._run(settings, noise, sink)

    def render(self, request: GenerationRequest, latents: Tensor | None = None) -> Video:
        """Make one video, for those who need no progress; takes and raises what `generate` does."""
        *_, video = self.generate(request, latents)
        assert isinstance(video, Video)
        return video

    def _run(
        self, settings: ResolvedRequest, latents: Tensor, sink: Sink | None
    ) -> Generator[Progress | Video, None, None]:
        with self._loras.applied(settings.lora):
            try:
                yield from self._generate(settings, latents, sink)
            finally:
                self.components.release()

    def _generate(
        self, settings: ResolvedRequest, latents: Tensor, sink: Sink | None
    ) -> Generator[Progress | Video, None, None]:
        clock = _Clock(self.components.device)
        yield clock.progress("text", 0, 1)
        with clock.measure("text"):
            text = self.encode_text(settings)
        yield clock.progress("text", 1, 1)

        scheduler = make_scheduler(settings, self.components.scheduler)
        steps = len(remaining_timesteps(settings, scheduler))
        yield clock.progress("denoise", 0, steps)
        with clock.measure("denoise"), self._encoding:
            conditions = encode_conditions(self.components, settings)
            if settings.remixed:
                assert conditions.source is not None
                latents = add_noise(settings, scheduler, conditions.source, latents)
            self.components.release()
        trajectory = denoise(self.components, settings, scheduler, latents, text, conditions)
        for step in range(1, steps + 1):
            before = latents
            with clock.measure("denoise"):
                latents = next(trajectory)
            preview = partial(self._preview, before, latents, scheduler)
            still = self.components.placement.offload == "none"
            done = clock.progress("denoise", step, steps)
            yield replace(done, preview=preview if still else None)

        yield clock.progress("decode", 0, 1)
        with clock.measure("decode"):
            stride, parts = self.components.vae.config.scale_factor_temporal, []
            for part in with_given(settings, self.decode(latents), stride):
                parts.append(part)
                if sink is not None:
                    sink(part)
            frames = np.concatenate(parts)
        yield clock.progress("decode", 1, 1)
        yield Video(frames, settings.fps, dict(clock.seconds))

    def _preview(self, before: Tensor, after: Tensor, scheduler: Any) -> NDArray[np.uint8]:
        return stills(self.components.vae, estimate(before.to(after), after, scheduler))

    def initial_noise(self, settings: ResolvedRequest) -> Tensor:
        """Noise `(1, C, T', h, w)` fp32, drawn on the CPU: a seed means it with any GPU or none.

        torch's CPU kernels may differ in its last bits between instruction sets.
        """
        shape = self.components.latent_shape(settings)
        return torch.randn(shape, generator=torch.Generator().manual_seed(settings.seed))

    @torch.no_grad()
    def encode_text(self, settings: ResolvedRequest) -> Tensor:
        """Embed the prompt and, under guidance, the negative prompt: `(1 or 2, L, D)`."""
        parts = self.components
        prompts = [settings.prompt] + [settings.negative_prompt] * settings.guided
        length = self.description.max_sequence_length
        device = parts.placement.device_of("text_encoder")
        text = encode_prompts(prompts, parts.tokenizer, parts.text_encoder, length, device)
        return text.to(parts.device, parts.placement.dtype)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Iterator[NDArray[np.uint8]]:
        """Turn latents `(1, C, T', h, w)` into frames `(n, H, W, 3)` uint8, part by part.

        Raises:
            FloatingPointError: for latents that are not finite, which would decode to noise.
        """
        if not latents.isfinite().all():
            raise FloatingPointError("denoising ended in values that are not finite")
        for frames in decode_stream(self.components.vae, latents.to(self.components.device)):
            yield frames.cpu().numpy()


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
