"""Several checkpoints on one device: described without their weights, opened when they are asked.

For a worker: `Host(models, device)`, then `descriptions()` to publish, then for each job
`open(name, height=..., ...).generate(request)`.
"""

import gc
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from model.description import ModelDescription
from model.foreign import ForeignPipeline
from model.foreign_description import describe_foreign
from model.loading import PIPELINES, load, locate, outline, read_index
from model.lora import lora_names
from model.manifest import CheckpointError
from model.memory import estimate, resident_weights
from model.pipeline import GenerationRequest, Progress, Sink, Video, VideoPipeline
from model.placement import Offload, Placement

log = logging.getLogger("kinetograph.host")


class Pipeline(Protocol):
    """What any open checkpoint is to those who use it."""

    description: ModelDescription

    def generate(
        self, request: GenerationRequest, *, sink: Sink | None = None
    ) -> Generator[Progress | Video, None, None]:
        """Make one video, as `VideoPipeline.generate`."""


@dataclass(frozen=True)
class ServedModel:
    """One checkpoint and how it is to be served.

    Attributes:
        name: by which it is asked; unique.
        path: folder or hub id.
        dtype: of text encoder and transformer, as torch names it; None: bf16 on CUDA, else fp32.
        offload, text_device, text_int8: as in `Placement`.
        limits, defaults: in place of the checkpoint's own, as in its `model_index.json`.
        loras: folder of adapters.
    """

    name: str
    path: str
    dtype: str | None = None
    offload: Offload = "none"
    text_device: str | None = None
    text_int8: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    loras: Path | None = None

    def placement(self, device: torch.device) -> Placement:
        """Where its parts go."""
        dtype = None if self.dtype is None else getattr(torch, self.dtype)
        return Placement.of(device, dtype, self.offload, self.text_device, self.text_int8)

    @property
    def told(self) -> dict[str, Any]:
        """What stands in place of the same keys of `model_index.json`."""
        return {"name": self.name, "limits": self.limits, "defaults": self.defaults}


@dataclass(frozen=True)
class _Known:
    served: ServedModel
    placement: Placement
    description: ModelDescription
    resident: int


class Host:
    """The checkpoints that one process serves; those least recently used make room for others.

    Args:
        models: the first is the default.
        device: CUDA where there is one, else the CPU.
        memory_limit: bytes of the device that may be used; None: its share of what is free now.
        sharing: how many processes share the device.
        compiled: whether networks are compiled, and made to before a checkpoint is given out.
    """

    def __init__(
        self,
        models: Sequence[ServedModel],
        device: str | torch.device | None = None,
        memory_limit: int | None = None,
        compiled: bool = False,
        sharing: int = 1,
    ) -> None:
        self._compiled = compiled
        self._device = Placement.of(device).device
        self._limit = memory_limit or _free_memory(self._device) // sharing
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Pipeline] = OrderedDict()
        self._known = {model.name: self._describe(model) for model in models}

    def descriptions(self) -> list[ModelDescription]:
        """What each checkpoint can do and how much memory it takes, the default first."""
        return [known.description for known in self._known.values()]

    @property
    def loaded(self) -> tuple[str, ...]:
        """The checkpoints that are open, the least recently used first."""
        return tuple(self._open)

    def open(
        self,
        name: str,
        shape: tuple[int, int, int] | None = None,
        references: int = 0,
        lora: str | None = None,
    ) -> Pipeline:
        """A checkpoint, loaded if it is not, with room for a request of that shape.

        Args:
            name: of one of the models.
            shape: width and height in pixels, and frames; None: those of the defaults, or where
                they do not fit, of the least that it makes.
            references: frames that are shown beside the clip.
            lora: name of the adapter that is asked for.

        Raises:
            CheckpointError: if it cannot be opened, or does not fit the memory limit even alone.
        """
        known = self._known[name]
        shape = shape or self._usual(known.description)
        with self._lock:
            assert known.description.memory is not None
            need = known.description.memory.peak(*shape, references, lora)
            self._make_room(known, shape, need)
            if name not in self._open:
                self._open[name] = self._load(known)
            self._open.move_to_end(name)
            return self._open[name]

    def close(self, name: str) -> None:
        """Let go of an open checkpoint and of the memory it holds."""
        self._open.pop(name)
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _usual(self, description: ModelDescription) -> tuple[int, int, int]:
        """The shape of the defaults if it fits the limit, else the least one if that does."""
        memory = description.memory
        assert memory is not None
        sizes = [(int(w), int(h)) for w, h in (size.split("x") for size in description.sizes)]
        shapes = [(w, h, frames) for w, h in sizes for frames in description.num_frames]
        least = min(shapes, key=lambda shape: memory.peak(*shape))
        return least if memory.peak(*least) <= self._limit < memory.peak(*shapes[0]) else shapes[0]

    def _describe(self, model: ServedModel) -> _Known:
        try:
            placement = replace(model.placement(self._device), compiled=self._compiled)
            description, networks = _outline(model, placement)
        except CheckpointError as error:
            raise CheckpointError(f"{model.name}: {error}") from error
        assert description.memory is not None
        memory = replace(description.memory, limit=self._limit)
        description = replace(description, memory=memory, loras=lora_names(model.loras))
        return _Known(model, placement, description, resident_weights(networks, placement))

    def _make_room(self, known: _Known, shape: tuple[int, int, int], need: float) -> None:
        name = known.served.name
        width, height, frames = shape
        log.info(
            "%s: %.2f GB of weights stay on %s, and %d frames of %dx%d take %.2f of %.2f GB",
            *(name, known.resident / 1e9, self._device, frames, width, height),
            *(need / 1e9, self._limit / 1e9),
        )
        if need > self._limit:
            raise CheckpointError(
                f"{name}: {frames} frames of {width}x{height} take {need / 1e9:.2f} GB, but the "
                f"memory limit is {self._limit / 1e9:.2f} GB; allowed are less, or offload: group"
            )
        for other in [other for other in self._open if other != name]:
            held = sum(self._known[open_].resident for open_ in self._open if open_ != name)
            if held + need <= self._limit:
                break
            log.info("%s makes room for %s", other, name)
            self.close(other)

    def _load(self, known: _Known) -> Pipeline:
        model = known.served
        if _is_wan(model):
            parts = load(model.path, known.placement, model.told)
            pipeline: Pipeline = VideoPipeline(*parts, model.loras)
        else:
            pipeline = ForeignPipeline.open(model.path, known.placement, model.told, model.loras)
        pipeline.description = known.description
        if known.placement.compiled and isinstance(pipeline, VideoPipeline):
            warm_up(pipeline, self._usual(pipeline.description))
        return pipeline


def warm_up(pipeline: VideoPipeline, shape: tuple[int, int, int]) -> None:
    """Make a video of two steps of that shape, so that what compiles has compiled.

    On CUDA all texts are of one length. On a CPU they are not, so that there is a second video,
    which finds a text of another length and has graphs made for any.
    """
    begun = time.monotonic()
    width, height, frames = shape
    on_cuda = pipeline.components.placement.device.type == "cuda"
    for prompt in ("warm-up",) if on_cuda else ("warm-up", "a second warm-up"):
        request = GenerationRequest(
            prompt, width=width, height=height, num_frames=frames, num_inference_steps=2
        )
        *_, _ = pipeline.generate(request)
    name, spent = pipeline.description.name, time.monotonic() - begun
    log.info("%s: compiled and warmed up in %.1f s", name, spent)


def _outline(model: ServedModel, placement: Placement) -> tuple[ModelDescription, dict[str, Any]]:
    """The description, memory included, and the networks on the meta device."""
    if _is_wan(model):
        parts, description = outline(model.path, placement, model.told)
        memory = estimate(parts, description, model.loras)
        return replace(description, memory=memory), parts.networks
    return describe_foreign(model.path, placement, model.told, model.loras)


def _is_wan(model: ServedModel) -> bool:
    return read_index(*locate(model.path, "index")).get("_class_name") in PIPELINES


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
