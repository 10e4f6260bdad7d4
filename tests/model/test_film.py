"""Shots are made in their order, handed on picture by picture, and reported as one video; a preview
shows where a flow leads.
"""

from collections.abc import Generator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from numpy.typing import NDArray
from torch import Tensor

from model import film
from model.autoencoder import VideoAutoencoder
from model.pipeline import GenerationRequest, Progress, Video
from model.preview import LONGEST, estimate, stills


class Painter:
    """Makes grey videos, each frame lighter than the one before, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[GenerationRequest] = []

    def generate(
        self, request: GenerationRequest, *, sink: Any = None
    ) -> Generator[Progress | Video, None, None]:
        self.asked.append(request)
        shades = 30 * len(self.asked) + np.arange(request.num_frames or 9, dtype=np.uint8)
        frames = np.tile(shades[:, None, None, None], (1, 32, 48, 3))
        yield Progress("text", 0, 1, 0.0)
        for step in range(5):
            yield Progress("denoise", step, 4, 0.0)
        yield Progress("decode", 0, 1, 0.0)
        if sink is not None:
            sink(frames)
        yield Video(frames, 8, {"denoise": 1.5})


def test_shots_follow_each_other_and_continue_from_the_last_picture() -> None:
    painter, sunk = Painter(), list[NDArray[np.uint8]]()
    shots = [film.Shot("a", 9), film.Shot("b", 5, "continue"), film.Shot("c", 9)]
    request = GenerationRequest("all", seed=3)
    *told, video = film.generate(painter, request, shots, sunk.append)
    assert isinstance(video, Video) and len(video.frames) == 9 + 5 + 9
    assert video.timings == {"denoise": 4.5}
    assert np.array_equal(np.concatenate(sunk), video.frames)
    assert [(r.prompt, r.num_frames, r.seed) for r in painter.asked] == [
        *(("a", 9, 3), ("b", 5, 3), ("c", 9, 3)),
    ]
    first, second, third = (request.image for request in painter.asked)
    assert first is None and third is None
    assert second is not None and np.array_equal(np.asarray(second), video.frames[8])
    steps = [event.step for event in told if isinstance(event, Progress)]
    assert steps == sorted(steps) and steps[-1] == 4
    assert {event.steps for event in told[1:] if isinstance(event, Progress)} == {4}


def test_without_shots_it_is_the_request_itself() -> None:
    painter = Painter()
    *_, video = film.generate(painter, GenerationRequest("one", num_frames=9), [])
    assert isinstance(video, Video) and len(video.frames) == 9


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_an_estimate_is_where_a_straight_flow_ends(shift: float) -> None:
    """Exact for the true velocity, noise - x0, of a straight path; 1e-4 is fp32 over few steps."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(6)
    generator = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(1, 16, 3, 4, 6, generator=generator) for _ in range(2))
    latents = noise
    for t in scheduler.timesteps:
        before: Tensor = latents
        latents = scheduler.step(noise - clean, t, latents, return_dict=False)[0]
        assert torch.allclose(estimate(before, latents, scheduler), clean, atol=1e-4)


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (2, 2), (5, 3)])
def test_stills_are_few_and_small(frames: int, count: int) -> None:
    vae = VideoAutoencoder(hidden_channels=8, num_blocks=1)
    latents = torch.randn(1, 16, frames, 6, LONGEST + 2)
    pictures = stills(vae, latents)
    stride = vae.config.scale_factor_spatial
    assert pictures.shape == (count, 3 * stride, (LONGEST // 2 + 1) * stride, 3)
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures[0], stills(vae, latents[:, :, :1])[0])
