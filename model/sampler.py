"""The denoising loop: noise, text and a first frame in, latents out, one step at a time.

What it computes is what Wan's pipelines in diffusers compute: classifier-free guidance (Ho and
Salimans, 2022, arXiv:2207.12598) on the velocity of a rectified flow, integrated by one of
diffusers' schedulers.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from model.conditions import FirstFrame
from model.loading import Components, shift_key
from model.request import ResolvedRequest

NO_FIRST_FRAME = FirstFrame()


def make_scheduler(settings: ResolvedRequest, template: Any) -> Any:
    """A scheduler configured as `template`, with the request's shift and steps and no history."""
    key = shift_key(template)
    shift = {key: settings.flow_shift} if key else {}
    scheduler = type(template).from_config(template.config, **shift)
    scheduler.set_timesteps(settings.num_inference_steps)
    # UniPC's timesteps are whole numbers; where the first repeats, looking it up finds the second.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)
    return scheduler


@torch.no_grad()
def denoise(
    parts: Components,
    settings: ResolvedRequest,
    scheduler: Any,
    latents: Tensor,
    text: Tensor,
    first_frame: FirstFrame = NO_FIRST_FRAME,
) -> Iterator[Tensor]:
    """Integrate from noise to a video's latents, yielding them `(1, C, T', h, w)` at every step.

    With two experts, the first works at timesteps from `boundary_ratio` of the scheduler's up, and
    the second, with a guidance scale of its own, below (Wan2.2).

    Args:
        scheduler: fresh from `make_scheduler`.
        latents: noise `(1, C, T', h, w)`.
        text: embeddings of the prompt and, under guidance, the negative prompt, `(1 or 2, L, D)`.
        first_frame: from `encode_first_frame`.
    """
    latents = latents.to(text.device, torch.float32)
    boundary = (parts.boundary_ratio or 0) * scheduler.config.num_train_timesteps
    clean, channels = first_frame.clean, first_frame.channels
    for t in scheduler.timesteps:
        if t >= boundary:
            network, guidance_scale = parts.transformer, settings.guidance_scale
        else:
            network, guidance_scale = parts.transformer_2, settings.guidance_scale_2
        latents = _with_first_frame(latents, clean)
        timestep = t[None].to(text.device)
        if clean is not None:
            timestep = timestep * _noisy_tokens(latents, network.config.patch_size)
        x = latents if channels is None else torch.cat([latents, channels], dim=1)
        velocity = _velocity(network, x, timestep, text, first_frame.tokens, guidance_scale)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
        yield _with_first_frame(latents, clean)


def _with_first_frame(latents: Tensor, clean: Tensor | None) -> Tensor:
    return latents if clean is None else torch.cat([clean, latents[:, :, 1:]], dim=2)


def _noisy_tokens(latents: Tensor, patch_size: tuple[int, ...]) -> Tensor:
    """`(1, N)`: 0 for the tokens of the first latent frame, 1 for the others."""
    noisy = latents.new_ones([n // p for n, p in zip(latents.shape[2:], patch_size, strict=True)])
    noisy[0] = 0
    return noisy.flatten()[None]


def _velocity(
    network: Any,
    x: Tensor,
    timestep: Tensor,
    text: Tensor,
    image: Tensor | None,
    guidance_scale: float,
) -> Tensor:
    """The network's velocity for the prompt, led away from that for the negative prompt; fp32.

    One after the other: a batch of two was no faster on a CPU, and takes twice the memory.
    """

    def predict(rows: Tensor) -> Tensor:
        velocity: Tensor = network(
            hidden_states=x.to(text.dtype),
            timestep=timestep,
            encoder_hidden_states=rows,
            encoder_hidden_states_image=None if image is None else image.to(text.dtype),
            return_dict=False,
        )[0]
        return velocity.float()

    prompted = predict(text[:1])
    if len(text) == 1 or guidance_scale == 1:
        return prompted
    unprompted = predict(text[1:])
    return unprompted + guidance_scale * (prompted - unprompted)
