"""What one of diffusers' text-to-video pipelines can be asked for, told without its weights."""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline, ModelMixin
from transformers import PreTrainedModel

from model.description import ModelDescription
from model.foreign_kinds import length_name, signature, unfit
from model.foreign_memory import denoiser, estimate_foreign, strides, token_side
from model.loading import (
    EMPTY,
    library_class,
    load_component,
    locate,
    outline_network,
    override,
    read_index,
)
from model.manifest import CheckpointError, Manifest
from model.placement import Placement
from model.quantize import quantize_linears

DEFAULT_FPS = 24


def describe_foreign(
    source: str | Path,
    placement: Placement,
    told: Mapping[str, Any] = EMPTY,
    loras: Path | None = None,
) -> tuple[ModelDescription, dict[str, Any]]:
    """What `ForeignPipeline.open` would be described as, memory included, without its weights.

    Returns:
        The description, and the networks on the meta device.

    Raises:
        CheckpointError: as `open`.
    """
    folder, name = locate(source, "configuration")
    kind = check_kind(folder, name)
    index = read_index(folder, name)
    parts = {
        part: _outline(folder, index, part, placement.dtype)
        for part, value in index.items()
        if isinstance(value, list)
    }
    options = {k: v for k, v in index.items() if k in inspect.signature(kind.__init__).parameters}
    try:
        pipeline = kind(**(options | parts))
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: {str(error).splitlines()[0]}") from error
    if placement.text_int8:
        quantize_text(pipeline)
    networks = {k: v for k, v in pipeline.components.items() if isinstance(v, torch.nn.Module)}
    description = describe_pipeline(name, pipeline, told)
    memory = estimate_foreign(pipeline, description, placement, loras)
    return replace(description, memory=memory), networks


def check_kind(folder: Path, name: str) -> type[Any]:
    """The pipeline's class; refused unless it makes videos from text alone, and tells its steps."""
    class_name = str(read_index(folder, name).get("_class_name"))
    kind = getattr(diffusers, class_name, None)
    if not isinstance(kind, type) or not issubclass(kind, DiffusionPipeline):
        raise CheckpointError(f"{name}: a {class_name}, which diffusers does not know")
    if problem := unfit(kind):
        raise CheckpointError(f"{name}: {class_name} {problem}")
    return kind


def _outline(folder: Path, index: Mapping[str, Any], part: str, dtype: torch.dtype) -> Any:
    if index[part][1] is None:
        return None
    kind = library_class(index, part)
    if issubclass(kind, ModelMixin | PreTrainedModel):
        return outline_network(folder, part, kind, dtype)
    return load_component(folder, part, kind)


def quantize_text(pipeline: Any) -> None:
    for name, part in pipeline.components.items():
        if name.startswith("text_encoder") and isinstance(part, torch.nn.Module):
            quantize_linears(part)


def describe_pipeline(name: str, pipeline: Any, told: Mapping[str, Any]) -> ModelDescription:
    """From the defaults of the pipeline's call and the strides of its autoencoder."""
    manifest = Manifest.of(override({}, told))
    call = signature(type(pipeline))
    spatial, temporal = strides(pipeline)
    length = _default(call, length_name(call) or "") or _sample(pipeline, "sample_frames", 1)
    lengths = range(length, 0, -temporal) if length % temporal == 1 else (length,)
    limits, defaults = manifest.limits, manifest.defaults
    return ModelDescription(
        name=manifest.name or name,
        capabilities=("text",),
        sizes=limits.sizes or (_default_size(name, pipeline, call, spatial),),
        size_multiple=None if limits.sizes else token_side(pipeline),
        num_frames=limits.num_frames or tuple(lengths),
        fps=limits.fps or _default(call, "frame_rate") or DEFAULT_FPS,
        num_inference_steps=defaults.num_inference_steps or _default(call, "num_inference_steps"),
        guidance_scale=_first(
            defaults.guidance_scale,
            _default(call, "guidance_scale"),
            getattr(guider(pipeline), "guidance_scale", None),
            1.0,
        ),
        guidance_scale_2=None,
        flow_shift=None,
        max_sequence_length=_default(call, "max_sequence_length") or 512,
        words=None,
        grammar=None,
        examples=None,
        parameters=sum(p.numel() for p in denoiser(pipeline).parameters()),
    )


def guider(pipeline: Any) -> Any:
    """The part of a pipeline that guides where its call takes no guidance_scale; None if none."""
    return getattr(pipeline, "guider", None)


def _default(call: Mapping[str, inspect.Parameter], key: str) -> Any:
    default = call[key].default if key in call else None
    return None if default is inspect.Parameter.empty else default


def _first(*values: float | None) -> float:
    return float(next(value for value in values if value is not None))


def _sample(pipeline: Any, key: str, stride: int) -> int:
    """What a transformer was trained for, in pixels or frames; 0 if it does not say."""
    return int(getattr(denoiser(pipeline).config, key, None) or 0) * stride


def _default_size(
    name: str, pipeline: Any, call: Mapping[str, inspect.Parameter], spatial: int
) -> str:
    square = getattr(denoiser(pipeline).config, "sample_size", None)
    width, height = (
        _default(call, side)
        or _sample(pipeline, f"sample_{side}", spatial)
        or (square * spatial if isinstance(square, int) else 0)
        for side in ("width", "height")
    )
    if not width or not height:
        raise CheckpointError(f"{name}: limits.sizes is missing, and the pipeline has no default")
    return f"{width}x{height}"
