"""What a request to one of diffusers' pipelines takes of memory, found as in `model.memory`.

The pipeline itself is run on the meta device, from its prompt to its latents; of its parts only the
scheduler is replaced, as it would look at values that are not there.
"""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from model.description import Memory, ModelDescription
from model.foreign_kinds import spelled
from model.memory import (
    META,
    TERMS,
    Coefficients,
    FusedAttention,
    PeakMemory,
    Shape,
    fit,
    probe_shapes,
    solve,
    weights_by_stage,
    with_loras,
)
from model.placement import Placement

ACTIVATIONS = 14
"""Widths of activations that a transformer block keeps for a token: residual, q, k, v, attention,
and the feed-forward's four, twice."""
log = logging.getLogger("kinetograph.memory")
STEPS = 2
"""After as many a pipeline holds all that it ever does: the last step's outcome beside the next."""


class _Schedule:
    """A scheduler that looks at no values; what else is asked of it is the real one's."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.timesteps = torch.empty(STEPS, device=META)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        timesteps: Any = None,
        sigmas: Any = None,
        **_: Any,
    ) -> None:
        """Nothing to be set."""

    def scale_model_input(self, sample: Tensor, *_: Any, **__: Any) -> Tensor:
        """As it is."""
        return sample

    def step(self, model_output: Tensor, timestep: Any, sample: Tensor, *_: Any, **__: Any) -> Any:
        """As much as Euler's step makes."""
        return (sample + model_output,)


def denoiser(pipeline: Any) -> Any:
    """The network that a pipeline runs at every step."""
    parts = (getattr(pipeline, name, None) for name in ("transformer", "unet"))
    return next(part for part in parts if part is not None)


def strides(pipeline: Any) -> tuple[int, int]:
    """Pixels and frames that a latent cell spans, under either of diffusers' names."""
    spatial, temporal = (
        next((v for k in names if (v := getattr(pipeline, k, None)) is not None), usual)
        for names, usual in (
            (("vae_scale_factor_spatial", "vae_spatial_compression_ratio", "vae_scale_factor"), 8),
            (("vae_scale_factor_temporal", "vae_temporal_compression_ratio"), 1),
        )
    )
    return int(spatial), int(temporal)


def token_side(pipeline: Any) -> int:
    """Pixels that a token spans in width and height."""
    patch = getattr(denoiser(pipeline).config, "patch_size", 1)
    return strides(pipeline)[0] * (patch if isinstance(patch, int) else max(patch))


def estimate_foreign(
    pipeline: Any, model: ModelDescription, placement: Placement, loras: Path | None = None
) -> Memory:
    """The memory of requests to a pipeline whose networks are on the meta device.

    A pipeline that cannot be run there is taken for a transformer of the usual form, by its width.
    loras: folder of adapters that requests may name.
    """
    spatial, temporal = strides(pipeline)
    networks = {k: v for k, v in pipeline.components.items() if isinstance(v, nn.Module)}
    weights = weights_by_stage(networks, placement, by_leaf=True)
    shapes = _shapes(model, temporal)

    def drawn() -> dict[str, Coefficients]:
        peaks = [_peaks(pipeline, shape, placement.device) for shape in shapes]
        found = {}
        for stage, terms in TERMS.items():
            of_stage = [each[stage] for each in peaks[: len(terms)]]
            some = shapes[: len(terms)]
            found[stage] = solve(of_stage, some, temporal, weights[stage], terms)
        return found

    try:
        stages = drawn()
        adapted = with_loras(
            {"transformer": denoiser(pipeline)}, placement, loras, lambda: drawn()["denoise"]
        )
    except Exception as error:  # whatever a pipeline says whose code looks at values after all
        told = "%s: its memory is told by its width alone (%s)"
        log.info(told, model.name, type(error).__name__)
        stages, adapted = _usual(pipeline, weights, placement), {}
    try:
        decode = partial(_decode, pipeline.vae, spatial, temporal)
        probes = probe_shapes(model, token_side(pipeline), temporal)
        of_vae = [pipeline.vae], weights["decode"], placement.device
        stages["decode"] = fit(decode, probes, temporal, *of_vae)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        # An autoencoder that looks at values or wants more than latents: its weights are known.
        stages["decode"] = (float(weights["decode"]), 0.0, 0.0)
    return Memory(stages, temporal, adapted=adapted)


def _shapes(model: ModelDescription, temporal: int) -> list[Shape]:
    """The most that may be asked for, and about half as many frames of it."""
    sizes = (tuple(map(int, size.split("x"))) for size in model.sizes)
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    latent_frames = max(2, (max(model.num_frames) - 1) // temporal + 1)
    counts = latent_frames, latent_frames // 2
    return [(width, height, 1 + (count - 1) * temporal) for count in counts]


def _usual(pipeline: Any, weights: dict[str, int], placement: Placement) -> dict[str, Coefficients]:
    config = denoiser(pipeline).config
    heads = getattr(config, "num_attention_heads", None) or 1
    width = heads * (getattr(config, "attention_head_dim", None) or 64)
    a_token = ACTIVATIONS * width * placement.dtype.itemsize
    tokens = a_token / token_side(pipeline) ** 2 / (getattr(config, "patch_size_t", None) or 1)
    return {
        "text": (float(weights["text"]), 0.0, 0.0),
        "denoise": (float(weights["denoise"]), 0.0, round(tokens, 3)),
    }


def _peaks(pipeline: Any, shape: Shape, device: torch.device) -> dict[str, int]:
    """The most bytes alive, weights apart, until the network is first run and from then on."""
    width, height, frames = shape
    networks = [v for v in pipeline.components.values() if isinstance(v, nn.Module)]
    encoders = [network for network in networks if isinstance(network, PreTrainedModel)]
    counter = PeakMemory(META, networks, columns=device.type == "cpu")
    peaks: dict[str, int] = {}

    def first(*_: Any) -> None:
        if not peaks:
            peaks["text"] = counter.restart()

    scheduler = pipeline.scheduler
    hooks = [denoiser(pipeline).register_forward_pre_hook(first)]
    hooks += [e.register_forward_pre_hook(_widen_mask, with_kwargs=True) for e in encoders]
    pipeline.scheduler = _Schedule(scheduler)
    pipeline.set_progress_bar_config(disable=True)
    try:
        with torch.no_grad(), FusedAttention(), counter:
            asked = {
                "prompt": "a",
                "width": width,
                "height": height,
                "num_frames": frames,
                "num_inference_steps": STEPS,
                "generator": torch.Generator(),
                "output_type": "latent",
            }
            pipeline(**spelled(type(pipeline), asked))
    finally:
        pipeline.scheduler = scheduler
        for hook in hooks:
            hook.remove()
    return peaks | {"denoise": counter.peak}


def _widen_mask(_: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """As wide as the scores: from a mask of rows, transformers would first read what it says."""
    mask = kwargs.get("attention_mask")
    if mask is not None and mask.ndim == 2:
        rows, length = mask.shape
        kwargs = kwargs | {"attention_mask": torch.zeros(rows, 1, length, length, device=META)}
    return args, kwargs


def _decode(vae: Any, spatial: int, temporal: int, width: int, height: int, frames: int) -> None:
    channels = getattr(vae.config, "latent_channels", None) or vae.config.z_dim
    latent_frames = (frames - 1) // temporal + 1
    shape = (1, channels, latent_frames, height // spatial, width // spatial)
    latents = torch.empty(shape, dtype=vae.dtype)
    conditioned = getattr(vae.config, "timestep_conditioning", False)
    arguments = (latents, torch.empty(1, dtype=vae.dtype)) if conditioned else (latents,)
    video = vae.decode(*arguments, return_dict=False)[0]
    (video.float() * 0.5 + 0.5).clamp(0, 1)
