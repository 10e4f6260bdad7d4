"""Decoding latent frame by latent frame gives `decode()` bit by bit, and holds no more with time.

A fault planted and seen: a stream that begins its cache anew at every latent frame.
"""

from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.latents import decode_stream
from model.memory import META, PeakMemory
from model.pipeline import GenerationRequest, VideoPipeline

Build = Callable[..., Path]
FORMS = ["t2v", "ti2v", "embedded"]
"""The autoencoders of Wan2.1 and Wan2.2, and our own."""


def whole(vae: torch.nn.Module, latents: Tensor) -> Tensor:
    """What the autoencoder's own `decode` gives, as bytes."""
    mean, std = (
        torch.tensor(values).view(-1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    video = vae.decode(latents * std + mean, return_dict=False)[0][0]
    return (video * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 3, 0)


def random_latents(vae: torch.nn.Module, frames: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, vae.config.z_dim, frames, 3, 5, generator=generator)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_stream_is_bit_by_bit_what_decoding_at_once_gives(build: Build, form: str) -> None:
    vae = VideoPipeline.from_pretrained(build(form)).components.vae
    latents = random_latents(vae, 4)
    parts = list(decode_stream(vae, latents))
    assert [len(part) for part in parts] == [1, 4, 4, 4]
    assert torch.equal(torch.cat(parts), whole(vae, latents))
    assert torch.cat(parts).float().std() > 10, "there is something to tell apart"


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_streams_of_one_autoencoder_do_not_disturb_each_other(build: Build, form: str) -> None:
    """Two in turns, and an encoding in between, which clears the cache on the autoencoder."""
    vae = VideoPipeline.from_pretrained(build(form)).components.vae
    one, two = random_latents(vae, 3, 1), random_latents(vae, 3, 2)
    made: list[list[Tensor]] = [[], []]
    for parts in zip_longest(decode_stream(vae, one), decode_stream(vae, two)):
        for seen, part in zip(made, parts, strict=True):
            seen.append(part)
        vae.encode(torch.zeros(1, 3, 5, 32, 32))
    assert torch.equal(torch.cat(made[0]), whole(vae, one))
    assert torch.equal(torch.cat(made[1]), whole(vae, two))


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_a_stream_holds_no_more_of_a_longer_video(build: Build, form: str) -> None:
    """Beyond the latents themselves, thrice: scaled, shifted and projected, 4 bytes a number."""
    vae = VideoPipeline.from_pretrained(build(form)).components.vae.to(META)
    peaks = []
    for frames in (6, 30):
        counter = PeakMemory(META, [vae])
        with torch.device(META), counter:
            latents = torch.empty(1, vae.config.z_dim, frames, 3, 5)
            for _ in decode_stream(vae, latents):
                pass
        peaks.append(counter.peak - 4 * 4 * latents.numel())
    assert peaks[1] <= peaks[0]


def test_a_sink_is_given_the_frames_of_the_answer_as_they_are_decoded(build: Build) -> None:
    """Before the video is there: one latent frame's at a time, and together they are the video."""
    pipeline = VideoPipeline.from_pretrained(build("embedded"))
    parts: list[np.ndarray] = []
    request = GenerationRequest("a cat", num_inference_steps=1)
    *_, video = pipeline.generate(request, sink=parts.append)
    assert [len(part) for part in parts] == [1, 4, 4, 4, 4]
    assert np.array_equal(np.concatenate(parts), video.frames)
