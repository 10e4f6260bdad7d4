"""Any of diffusers' text-to-video pipelines behind the surface of `VideoPipeline`.

LTX-Video, CogVideoX, HunyuanVideo and whatever else `DiffusionPipeline.from_pretrained` opens: the
pipeline runs as diffusers wrote it, in a thread of its own that stops at every step, where it would
move its progress bar, until the next item is asked for.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray

from model.description import ModelDescription
from model.foreign_description import (
    check_kind,
    describe_pipeline,
    guider,
    quantize_text,
)
from model.foreign_kinds import spelled
from model.foreign_memory import denoiser
from model.loading import EMPTY, locate
from model.lora import lora_file, lora_names
from model.manifest import CheckpointError
from model.pipeline import Progress, Sink, Stage, Video
from model.placement import Placement
from model.request import GenerationRequest, RequestError, ResolvedRequest, resolve


class _Cancelled(BaseException):
    """Raised within diffusers' loop to leave it."""


class ForeignPipeline:
    """A pipeline of diffusers, open. One request at a time."""

    def __init__(
        self,
        pipeline: Any,
        description: ModelDescription,
        placement: Placement,
        loras: Path | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.description = replace(description, loras=lora_names(loras))
        self._placement = placement
        self._loras = loras
        self._busy = threading.Lock()

    @classmethod
    def open(
        cls,
        source: str | Path,
        placement: Placement,
        told: Mapping[str, Any] = EMPTY,
        loras: Path | None = None,
    ) -> "ForeignPipeline":
        """Open a checkpoint folder or hub repository.

        Args:
            told: name, limits and defaults, in place of those that the pipeline has.
            loras: folder of adapters that requests may name.

        Raises:
            CheckpointError: if it cannot be opened, or is no text-to-video pipeline.
        """
        check_kind(*locate(source, "index"))
        folder, name = locate(source, "weights")
        try:
            pipeline = DiffusionPipeline.from_pretrained(folder, dtype=placement.dtype)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{name}: {str(error).splitlines()[0]}") from error
        pipeline.set_progress_bar_config(disable=True)
        if placement.text_int8:
            quantize_text(pipeline)
        _place(pipeline, placement)
        description = describe_pipeline(name, pipeline, told)
        return cls(pipeline, description, placement, loras)

    def generate(
        self, request: GenerationRequest, *, sink: Sink | None = None
    ) -> Generator[Progress | Video, None, None]:
        """Make one video, as `VideoPipeline.generate`; closing stops it within a step.

        `sink` is given all frames at once, as diffusers decodes them.

        Raises:
            RequestError: at once, for what the pipeline cannot do.
            RuntimeError: at the first item, if another request is at work.
        """
        return self._run(resolve(request, self.description), sink)

    def _run(
        self, settings: ResolvedRequest, sink: Sink | None
    ) -> Generator[Progress | Video, None, None]:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError(f"{self.description.name} is at work on another request")
        run = _Run(self.pipeline, self._placement.device, sink)
        try:
            if guider(self.pipeline) is not None:
                self.pipeline.guider = guider(self.pipeline).new(
                    guidance_scale=settings.guidance_scale
                )
            self._load_lora(settings.lora)
            yield Progress("text", 0, 1, 0.0)
            yield from run.items(self._arguments(settings), settings)
        finally:
            if settings.lora:
                self.pipeline.unload_lora_weights()
            self._busy.release()

    def _load_lora(self, name: str | None) -> None:
        if name is None:
            return
        assert self._loras is not None
        file = lora_file(self._loras, name, "transformer")
        try:
            if file is None:
                raise ValueError("it has no file for the transformer")
            self.pipeline.load_lora_weights(str(file.parent), weight_name=file.name)
        except (AttributeError, OSError, KeyError, RuntimeError, ValueError) as error:
            reason = f"a file that fits the model ({str(error).splitlines()[0]:.200})"
            raise RequestError("lora", name, reason) from error

    def _arguments(self, settings: ResolvedRequest) -> dict[str, Any]:
        given = {
            "prompt": settings.prompt,
            # Where there is none, some want "" and others None: it is the call's own default.
            **({"negative_prompt": settings.negative_prompt} if settings.negative_prompt else {}),
            "height": settings.height,
            "width": settings.width,
            "num_frames": settings.num_frames,
            "frame_rate": settings.fps,
            "num_inference_steps": settings.num_inference_steps,
            "guidance_scale": settings.guidance_scale,
            "generator": torch.Generator().manual_seed(settings.seed),
            "output_type": "np",
        }
        return spelled(type(self.pipeline), given)


class _Bar:
    """A progress bar that only counts: `step(done, total)` is called for every one of its steps."""

    def __init__(self, step: Callable[[int, int], None], total: int) -> None:
        self._step, self._total, self._done = step, total, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self) -> None:
        """A step is done."""
        self._done += 1
        self._step(self._done, self._total)


class _Run:
    """One call of a pipeline in a thread, which waits after every item until it is taken."""

    def __init__(self, pipeline: Any, device: torch.device, sink: Sink | None) -> None:
        self._pipeline = pipeline
        self._sink = sink
        self._device = device
        self._items: queue.Queue[Progress | Video | BaseException] = queue.Queue()
        self._wanted = threading.Semaphore(0)
        self._closed = False
        self._stage: Stage = "text"
        self._begun = 0.0
        self._seconds: dict[str, float] = {}

    def items(
        self, arguments: dict[str, Any], settings: ResolvedRequest
    ) -> Generator[Progress | Video, None, None]:
        """Progress and, last, the video; closing waits until the thread has left the pipeline."""
        thread = threading.Thread(target=self._call, args=(arguments, settings), daemon=True)
        thread.start()
        try:
            while True:
                self._wanted.release()
                item = self._items.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, Video):
                    return
        finally:
            self._closed = True
            self._wanted.release()
            thread.join()

    def _call(self, arguments: dict[str, Any], settings: ResolvedRequest) -> None:
        self._wanted.acquire()
        self._begun = time.perf_counter()
        steps = settings.num_inference_steps
        before = partial(self._denoising, steps)
        self._hook = denoiser(self._pipeline).register_forward_pre_hook(before)
        try:
            self._pipeline.progress_bar = partial(_Bar, self._step)
            frames = self._pipeline(**arguments).frames[0]
            self._end("decode", 1, 1)
            # CogVideoX gives up to three frames more than asked, where the latent ones are even.
            frames = _to_uint8(frames)[: settings.num_frames]
            if self._sink is not None:
                self._sink(frames)
            self._items.put(Video(frames, settings.fps, self._seconds))
        except _Cancelled:
            pass
        except BaseException as error:
            self._items.put(error)
        finally:
            self._hook.remove()
            del self._pipeline.progress_bar  # from here on its class's own
            self._pipeline.maybe_free_model_hooks()

    def _denoising(self, steps: int, *_: Any) -> None:
        self._hook.remove()
        self._end("text", 1, 1)
        self._report(Progress("denoise", 0, steps, 0.0))

    def _step(self, done: int, steps: int) -> None:
        self._end("denoise", done, steps)
        if done == steps:
            self._report(Progress("decode", 0, 1, 0.0))

    def _end(self, stage: Stage, step: int, steps: int) -> None:
        if self._device.type == "cuda":  # progress counts steps that are done, not launched
            torch.cuda.synchronize(self._device)
        spent = self._seconds.get(stage, 0.0) + time.perf_counter() - self._begun
        self._seconds[stage] = spent
        self._report(Progress(stage, step, steps, spent))

    def _report(self, item: Progress) -> None:
        self._items.put(item)
        self._wanted.acquire()
        if self._closed:
            raise _Cancelled
        self._begun = time.perf_counter()


def _place(pipeline: Any, placement: Placement) -> None:
    apart = {
        name: part
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module) and placement.device_of(name) != placement.device
    }
    if apart:
        raise CheckpointError(
            f"text_encoder device is {placement.text_device}; allowed for a "
            f"{type(pipeline).__name__} is that of the others, or offload"
        )
    if placement.offload == "model":
        pipeline.enable_model_cpu_offload(device=placement.device)
    elif placement.offload == "group":
        pipeline.enable_group_offload(onload_device=placement.device, offload_type="leaf_level")
    else:
        pipeline.to(placement.device)


def _to_uint8(frames: Any) -> NDArray[np.uint8]:
    """Frames `(T, H, W, 3)` in [0, 1] to bytes.

    Raises:
        FloatingPointError: for frames that are not finite.
    """
    values = np.asarray(frames)
    if not np.isfinite(values).all():
        raise FloatingPointError("denoising ended in values that are not finite")
    pixels: NDArray[np.uint8] = (values * 255).round().clip(0, 255).astype(np.uint8)
    return pixels
