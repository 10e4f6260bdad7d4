"""The denoising loop: noise, text and conditions in, latents out, one step at a time.

What it computes is what Wan's pipelines in diffusers compute: classifier-free guidance (Ho and
Salimans, 2022, arXiv:2207.12598) on the velocity of a rectified flow, integrated by one of
diffusers' schedulers.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from model.components import Components
from model.conditions import Conditions
from model.context import Moment, Prompt, Schedule
from model.loading import shift_key
from model.request import ResolvedRequest
from model.tokens import patch_counts

UNCONDITIONED = Conditions()
BATCHED_TOKENS = {"cuda": 4096, "cpu": 512}
"""Tokens of a video up to which both passes of guidance are one, by the type of the device."""


def make_scheduler(settings: ResolvedRequest, template: Any) -> Any:
    """A scheduler configured as `template`, with the request's shift and steps and no history.

    It begins where the request's strength says: `remaining_timesteps` are those it will run.
    """
    key = shift_key(template)
    shift = {key: settings.flow_shift} if key else {}
    scheduler = type(template).from_config(template.config, **shift)
    scheduler.set_timesteps(settings.num_inference_steps)
    # UniPC's timesteps are whole numbers; where the first repeats, looking it up finds the second.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(_start(settings, scheduler))
    return scheduler


def remaining_timesteps(settings: ResolvedRequest, scheduler: Any) -> Tensor:
    """The timesteps that a request runs: all of them, or the share that its strength leaves."""
    timesteps: Tensor = scheduler.timesteps[_start(settings, scheduler) :]
    return timesteps


def _start(settings: ResolvedRequest, scheduler: Any) -> int:
    """Index of the first step; rounded as diffusers does, but one step is always left."""
    steps = settings.num_inference_steps
    start: int = (steps - max(1, int(steps * settings.strength))) * scheduler.order
    return start


def add_noise(settings: ResolvedRequest, scheduler: Any, latents: Tensor, noise: Tensor) -> Tensor:
    """Make clean latents as noisy as the first of the remaining timesteps takes them.

    Args:
        scheduler: fresh from `make_scheduler`.
        latents, noise: `(1, C, T', h, w)`.
    """
    first = remaining_timesteps(settings, scheduler)[:1]
    noise = noise.to(latents)
    if hasattr(scheduler, "add_noise"):
        noisy: Tensor = scheduler.add_noise(latents, noise, first)
    else:
        noisy = scheduler.scale_noise(latents, first, noise)
    return noisy


@torch.no_grad()
def denoise(
    parts: Components,
    settings: ResolvedRequest,
    scheduler: Any,
    latents: Tensor,
    text: Tensor,
    conditions: Conditions = UNCONDITIONED,
) -> Iterator[Tensor]:
    """Integrate from noise to a video's latents, yielding them `(1, C, T', h, w)` at every step.

    With two experts, the first works at timesteps from `boundary_ratio` of the scheduler's up, and
    the second, with a guidance scale of its own, below (Wan2.2).

    Args:
        scheduler: fresh from `make_scheduler`.
        latents: noise `(1, C, T', h, w)`, or what `add_noise` gives.
        text: embeddings of the prompt and, under guidance, the negative prompt, `(1 or 2, L, D)`.
        conditions: from `encode_conditions`; latents that are known are in what is yielded, bit by
            bit.
    """
    latents = latents.to(text.device, torch.float32)
    boundary = (parts.boundary_ratio or 0) * scheduler.config.num_train_timesteps
    timesteps = remaining_timesteps(settings, scheduler)
    at_work = None
    for step, t in enumerate(timesteps):
        if t >= boundary:
            network, guidance_scale = parts.transformer, settings.guidance_scale
        else:
            network, guidance_scale = parts.transformer_2, settings.guidance_scale_2
        if network is not at_work:  # what the other expert has kept goes with these
            at_work = network
            schedule = Schedule(timesteps.to(text.device), conditions.known)
            prompts = _prompts(text, conditions, latents, parts)
        latents = conditions.applied(latents)
        x = latents if (c := conditions.channels) is None else torch.cat([latents, c], dim=1)
        predict = partial(_predict, network, x.to(text.dtype), schedule[step], conditions)
        velocity = _guided(predict, prompts, guidance_scale)
        latents = scheduler.step(velocity, t, latents, return_dict=False)[0]
        yield conditions.applied(latents)


def _prompts(
    text: Tensor, conditions: Conditions, latents: Tensor, parts: Components
) -> list[Prompt]:
    """The prompt and, under guidance, the negative one: as one batch where that is quicker.

    That is where so few tokens leave a device idle between operations; it takes twice the memory.
    """
    image = conditions.image_tokens
    image = None if image is None else image.to(text.dtype)
    counts = patch_counts(latents.shape[2:], parts.transformer.config.patch_size)
    few = math.prod(counts) <= BATCHED_TOKENS.get(text.device.type, 0)
    if few and len(text) == 2 and conditions.references is None:
        return [Prompt(text, None if image is None else image.repeat(2, 1, 1))]
    return [Prompt(rows, image) for rows in text.split(1)]


def _predict(
    network: Any, x: Tensor, moment: Moment, conditions: Conditions, prompt: Prompt
) -> Tensor:
    """The network's velocity for each of a prompt's texts; fp32."""
    velocity: Tensor = network(
        hidden_states=x.expand(len(prompt.text), -1, -1, -1, -1),
        timestep=moment,
        encoder_hidden_states=prompt,
        references=conditions.references,
        return_dict=False,
    )[0]
    return velocity.float()


def _guided(
    predict: Callable[[Prompt], Tensor], prompts: list[Prompt], guidance_scale: float
) -> Tensor:
    """The velocity for the prompt, led away from that for the negative prompt."""
    prompted: Tensor
    if len(prompts) == 1:
        prompted, *unprompted = predict(prompts[0]).split(1)
    else:
        prompted = predict(prompts[0])
        unprompted = [] if guidance_scale == 1 else [predict(prompts[1])]
    if guidance_scale == 1 or not unprompted:
        return prompted
    (other,) = unprompted
    guided: Tensor = other + guidance_scale * (prompted - other)
    return guided
