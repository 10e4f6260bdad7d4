"""The sampler computes what diffusers' Wan pipelines compute, on every form of checkpoint.

diffusers is the oracle: it saves random weights, both open the folder, and the latents after 4
steps are compared, relative by norm. Bound 1e-4: a step's two forwards agree to 1e-5, and guidance
of 5 on 4 steps may carry that ten times as far. Measured: 1e-6 to 6e-6; a fault gives over 1e-2.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, WanImageToVideoPipeline
from PIL import Image

from model.conditions import encode_first_frame
from model.pipeline import GenerationRequest, VideoPipeline
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
        encode_first_frame(pipeline.components, settings),
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
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)),
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
