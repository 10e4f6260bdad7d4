"""A video may start from another one: the latents are those of diffusers' WanVideoToVideoPipeline.

diffusers opens the same random weights, is given the same frames and the same noise, and its
latents are compared, relative by norm. Bound 1e-4, as in test_pipeline. Measured: 4e-8 to 8e-7;
a fault planted (beginning one step late) is seen at every strength.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanVideoToVideoPipeline
from PIL import Image

from model.autoencoder import VideoAutoencoder
from model.pipeline import GenerationRequest, Progress, RequestError, Video, VideoPipeline

Build = Callable[..., Path]
BOUND = 1e-4
SIZE = {"height": 48, "width": 64}


def clip(frames: int = 9, height: int = 48, width: int = 64) -> np.ndarray:
    t, y, x = np.mgrid[:frames, :height, :width]
    return np.stack([3 * x + 20 * t, 5 * y + 9 * t, x * y + 30 * t], -1).astype(np.uint8)


def made(pipeline: VideoPipeline, request: GenerationRequest, **options: Any) -> Any:
    """The latents that `generate` decodes, and its last item."""
    seen: list[torch.Tensor] = []
    decode = pipeline.decode
    pipeline.decode = lambda latents: (seen.append(latents), decode(latents))[1]  # type: ignore[method-assign]
    try:
        *_, video = pipeline.generate(request, **options)
    finally:
        del pipeline.decode
    return seen[0], video


def _autoencoder(folder: Path, form: str) -> dict[str, Any]:
    """Ours, telling its strides where this one of diffusers' pipelines looks for Wan's."""
    if form != "embedded":
        return {}
    vae = VideoAutoencoder.from_pretrained(folder / "vae")
    vae.temperal_downsample = [True, True]
    return {"vae": vae}


@pytest.mark.parametrize("strength", [1.0, 0.8, 0.45, 0.15])
@pytest.mark.parametrize(
    ("form", "scheduler"),
    [("t2v", "unipc"), ("t2v", "euler"), ("embedded", "euler"), ("embedded", "unipc")],
)
def test_latents_are_those_of_diffusers(
    build: Build, form: str, scheduler: str, strength: float
) -> None:
    folder, frames = build(form, scheduler), clip(11, 40, 72)
    request = GenerationRequest(
        "a red cat walks left", "blurry", num_inference_steps=7, guidance_scale=4.0, seed=7,
        num_frames=9, video=frames, strength=strength, **SIZE,
    )  # fmt: skip
    ours, _ = made(VideoPipeline.from_pretrained(folder), request)
    theirs = WanVideoToVideoPipeline.from_pretrained(folder, **_autoencoder(folder, form))
    theirs.set_progress_bar_config(disable=True)
    (expected,) = theirs(
        video=[Image.fromarray(frame) for frame in frames[:9]],
        prompt="a red cat walks left", negative_prompt="blurry", num_inference_steps=7,
        guidance_scale=4.0, strength=strength, generator=torch.Generator().manual_seed(7),
        max_sequence_length=12 if form == "embedded" else 512,
        output_type="latent", return_dict=False, **SIZE,
    )  # fmt: skip
    error = float((ours - expected).norm() / expected.norm())
    print(f"{form:8} {scheduler:5} {strength:.2f} {error:.1e}")
    assert ours.shape == expected.shape and error <= BOUND


@pytest.fixture(scope="module")
def pipeline(build: Build) -> VideoPipeline:
    return VideoPipeline.from_pretrained(build("embedded", "euler"))


@pytest.mark.parametrize(("strength", "steps"), [(1.0, 10), (0.5, 5), (0.19, 1), (0.01, 1)])
def test_strength_is_the_share_of_the_steps_that_are_reported_and_run(
    pipeline: VideoPipeline, strength: float, steps: int
) -> None:
    request = GenerationRequest(
        "a cat", video=clip(), strength=strength, num_inference_steps=10, **SIZE
    )
    *progress, video = pipeline.generate(request)
    counted = [p for p in progress if isinstance(p, Progress) and p.stage == "denoise"]
    assert [(p.step, p.steps) for p in counted] == [(k, steps) for k in range(steps + 1)]
    assert isinstance(video, Video) and video.frames.shape == (9, 48, 64, 3)


def test_the_weaker_the_nearer_to_the_source(pipeline: VideoPipeline) -> None:
    """Distance of the latents to those of the source grows with strength."""
    distances = []
    source = None
    for strength in (0.1, 0.4, 0.7, 1.0):
        request = GenerationRequest(
            "a cat", video=clip(), strength=strength, num_inference_steps=10, **SIZE
        )
        latents, _ = made(pipeline, request)
        if source is None:
            vae = pipeline.components.vae
            pixels = torch.from_numpy(clip()).permute(3, 0, 1, 2)[None] / 127.5 - 1
            mean, std = (
                torch.tensor(v).view(-1, 1, 1, 1)
                for v in (vae.config.latents_mean, vae.config.latents_std)
            )
            source = (vae.encode(pixels).latent_dist.mode() - mean) / std
        distances.append(float((latents - source).norm()))
    assert distances == sorted(distances) and distances[0] < 0.5 * distances[-1]


def test_closing_stops_at_every_step(pipeline: VideoPipeline) -> None:
    request = GenerationRequest("a cat", video=clip(), strength=0.5, num_inference_steps=6, **SIZE)
    running = pipeline.generate(request)
    seen = [next(running) for _ in range(4)][-1]
    assert isinstance(seen, Progress) and (seen.stage, seen.step, seen.steps) == ("denoise", 1, 3)
    running.close()
    assert next(running, None) is None


def test_a_second_expert_takes_over_in_what_is_left(build: Build) -> None:
    """At 0.3 of the schedule only the expert of low noise is asked."""
    pipeline = VideoPipeline.from_pretrained(build("experts", "euler"))
    calls: list[str] = []
    for name in ("transformer", "transformer_2"):
        part = getattr(pipeline.components, name)
        part.register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    for strength, expected in ((0.3, {"transformer_2"}), (1.0, {"transformer", "transformer_2"})):
        calls.clear()
        request = GenerationRequest(
            "a cat", video=clip(), strength=strength, num_inference_steps=10, **SIZE
        )
        pipeline.render(request)
        assert set(calls) == expected


def test_a_length_that_is_not_asked_is_the_longest_that_the_source_has(
    pipeline: VideoPipeline,
) -> None:
    for given, frames in ((16, 9), (17, 17), (40, 17)):
        request = GenerationRequest("a cat", video=clip(given), num_inference_steps=1, **SIZE)
        *_, video = pipeline.generate(request)
        assert isinstance(video, Video) and len(video.frames) == frames


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": clip(8)}, "video is '8 frames'; allowed: at least 9 frames"),
        ({"video": clip(16), "num_frames": 17}, r"num_frames is 17; allowed: 9 \(video has 16"),
        ({"video": clip().astype(float)}, "video is 'float64 of shape .*; allowed: uint8 of shape"),
        ({"video": "clip.mp4"}, "video is 'str'; allowed: an array of frames"),
        ({"video": clip(), "strength": 0.0}, "strength is 0.0; allowed: a number above 0"),
        ({"video": clip(), "strength": 1.2}, "strength is 1.2; allowed: a number above 0, at"),
        ({"strength": 0.5}, "strength is 0.5; allowed: none without a video"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    pipeline: VideoPipeline, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        pipeline.generate(GenerationRequest("a cat", **change))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("i2v", "video is 'given'; allowed: none, since .* can do first_frame"),
        ("ti2v", "image is <PIL.*>; allowed: none beside video"),
    ],
)
def test_an_image_and_a_video_do_not_go_together(build: Build, form: str, message: str) -> None:
    pipeline = VideoPipeline.from_pretrained(build(form))
    with pytest.raises(RequestError, match=message):
        pipeline.generate(
            GenerationRequest(
                "a cat", video=clip(), image=Image.new("RGB", (8, 8)), height=64, width=96
            )
        )
