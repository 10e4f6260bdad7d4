"""The sampler computes what diffusers' Wan pipelines compute, on every form of checkpoint.

diffusers is the oracle: it saves random weights, both open the folder, and the latents after 4
steps are compared, relative by norm. Bound 1e-4: a step's two forwards agree to 1e-5, and guidance
of 5 on 4 steps may carry that ten times as far. Measured: 1e-7 to 8e-7, and 4e-3 and more with a
fault planted (experts swapped at another step, prompt not cleaned, first frame's tokens noisy).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, WanImageToVideoPipeline
from PIL import Image

from model.conditions import encode_conditions
from model.pipeline import GenerationRequest, Video, VideoPipeline
from model.request import resolve
from model.sampler import denoise, make_scheduler

Build = Callable[..., Path]

BOUND = 1e-4
PROMPT, NEGATIVE = "A  red &amp; cat walks\n left.", "blurry, ball"
SIZE = {"height": 64, "width": 96, "num_frames": 9}
"""Not square, and not the same number along any two axes."""


def picture(width: int = 96, height: int = 64) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([3 * x % 256, 5 * y % 256, x * y % 256], -1).astype(np.uint8))


def our_latents(folder: Path, request: GenerationRequest) -> torch.Tensor:
    """What the steps of `VideoPipeline.generate` end in, before they are decoded."""
    pipeline = VideoPipeline.from_pretrained(folder)
    settings = resolve(request, pipeline.description)
    *_, latents = denoise(
        pipeline.components,
        settings,
        make_scheduler(settings, pipeline.components.scheduler),
        pipeline.initial_noise(settings),
        pipeline.encode_text(settings),
        encode_conditions(pipeline.components, settings),
    )
    return latents


def oracle(folder: Path, **arguments: Any) -> Any:
    """What diffusers makes of the same folder; the noise is drawn from seed 7 by diffusers."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    if "image" in arguments and not isinstance(pipeline, WanImageToVideoPipeline):
        parts = {k: v for k, v in pipeline.components.items() if v is not None}
        pipeline = WanImageToVideoPipeline(**parts, expand_timesteps=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.Generator().manual_seed(7)
    arguments = {"prompt": PROMPT, "negative_prompt": NEGATIVE} | SIZE | arguments
    return pipeline(num_inference_steps=4, generator=noise, return_dict=False, **arguments)[0]


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("t2v", {"guidance_scale": 5.0}),
        ("t2v", {"guidance_scale": 1.0}),
        ("experts", {"guidance_scale": 5.0, "guidance_scale_2": 2.0}),
        ("experts", {"guidance_scale": 3.0}),
        ("ti2v", {"guidance_scale": 5.0}),
        ("ti2v", {"guidance_scale": 5.0, "image": picture()}),
        ("i2v", {"guidance_scale": 4.0, "guidance_scale_2": 2.5, "image": picture()}),
        ("i2v-clip", {"guidance_scale": 5.0, "image": picture()}),
        ("i2v", {"guidance_scale": 4.0, "image": picture(), "last_image": picture(40, 72)}),
        ("flf-clip", {"guidance_scale": 5.0, "image": picture(), "last_image": picture(40, 72)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_latents_are_those_of_diffusers(
    build: Build, form: str, scheduler: str, options: dict[str, Any], record_property: Any
) -> None:
    folder = build(form, scheduler)
    request = GenerationRequest(PROMPT, NEGATIVE, seed=7, num_inference_steps=4, **SIZE, **options)
    error = difference(
        our_latents(folder, request), oracle(folder, output_type="latent", **options)
    )
    print(f"{form:8} {scheduler:5} {error:.1e}")
    assert error <= BOUND


def test_steps_enough_to_repeat_a_timestep(build: Build) -> None:
    """300 steps at shift 5 give UniPC its first whole-numbered timestep twice."""
    folder = build("t2v", "unipc")
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.scheduler = type(pipeline.scheduler).from_config(
        pipeline.scheduler.config, flow_shift=5.0
    )
    pipeline.set_progress_bar_config(disable=True)
    size = {"height": 32, "width": 48, "num_frames": 1, "num_inference_steps": 300}
    theirs = pipeline(
        PROMPT,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(7),
        output_type="latent",
        **size,
    ).frames
    assert pipeline.scheduler.timesteps[0] == pipeline.scheduler.timesteps[1]
    request = GenerationRequest(PROMPT, seed=7, guidance_scale=1.0, flow_shift=5.0, **size)
    assert difference(our_latents(folder, request), theirs) <= BOUND


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
def test_our_own_folder_opens_in_diffusers_and_agrees(build: Build, scheduler: str) -> None:
    """Its tokenizer, autoencoder, short text and limits go through the same code as Wan's."""
    folder = build("embedded", scheduler)
    request = GenerationRequest(PROMPT, NEGATIVE, num_inference_steps=4, seed=7)
    size = {"height": 48, "width": 64, "num_frames": 17, "max_sequence_length": 12}
    theirs = oracle(folder, output_type="latent", guidance_scale=2.5, **size)
    assert difference(our_latents(folder, request), theirs) <= BOUND


@pytest.mark.parametrize("form", ["t2v", "ti2v", "embedded"])
def test_frames_are_those_of_diffusers(build: Build, form: str) -> None:
    """Seed to pixels, through `generate`: at most one rounding step, of 255, apart."""
    folder = build(form)
    size = SIZE if form != "embedded" else {"height": 48, "width": 64, "num_frames": 9}
    text = {"max_sequence_length": 12} if form == "embedded" else {}
    request = GenerationRequest(
        PROMPT, NEGATIVE, num_inference_steps=4, guidance_scale=4.0, seed=7, **size
    )
    *_, video = VideoPipeline.from_pretrained(folder).generate(request)
    theirs = oracle(folder, output_type="np", guidance_scale=4.0, **size, **text)[0]
    assert isinstance(video, Video) and video.frames.dtype == np.uint8
    assert video.frames.shape == theirs.shape and video.frames.std() > 10
    assert np.abs(video.frames - 255 * theirs).max() <= 0.5 + 0.1


def test_the_flow_shift_of_a_request_reaches_the_scheduler(build: Build) -> None:
    """Asking for a shift is the same as opening a folder that has it."""
    for scheduler, key in (("unipc", "flow_shift"), ("euler", "shift")):
        folder = build("t2v", scheduler)
        request = GenerationRequest(PROMPT, seed=7, num_inference_steps=4, flow_shift=7.0, **SIZE)
        pipeline = VideoPipeline.from_pretrained(folder)
        settings = resolve(request, pipeline.description)
        template = pipeline.components.scheduler
        expected = type(template).from_config(template.config, **{key: 7.0})
        expected.set_timesteps(4)
        assert torch.equal(make_scheduler(settings, template).sigmas, expected.sigmas)
        assert template.config[key] == 3.0  # and the checkpoint's own is left alone
