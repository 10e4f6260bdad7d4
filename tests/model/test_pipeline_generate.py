"""`generate` reports every step, stops at every step, repeats itself, and refuses by name."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.pipeline import GenerationRequest, Progress, RequestError, Video, VideoPipeline

Build = Callable[..., Path]

SMALL = {"height": 48, "width": 64, "num_frames": 9, "num_inference_steps": 3}
STAGES = [("text", 0, 1), ("text", 1, 1)]
STAGES += [("denoise", step, 3) for step in range(4)]
STAGES += [("decode", 0, 1), ("decode", 1, 1)]


@pytest.fixture(scope="module")
def pipeline(build: Build) -> VideoPipeline:
    return VideoPipeline.from_pretrained(build("embedded", "euler"))


def film(pipeline: VideoPipeline, request: GenerationRequest, **options: Any) -> Video:
    *_, video = pipeline.generate(request, **options)
    assert isinstance(video, Video)
    return video


def test_progress_comes_at_every_step_and_the_video_last(pipeline: VideoPipeline) -> None:
    *progress, video = pipeline.generate(GenerationRequest("a cat", **SMALL))
    assert all(isinstance(item, Progress) for item in progress) and isinstance(video, Video)
    assert [(item.stage, item.step, item.steps) for item in progress] == STAGES
    for stage, seconds in video.timings.items():
        clock = [item.seconds for item in progress if item.stage == stage]
        assert clock == sorted(clock) and clock[0] == 0 and clock[-1] == seconds > 0
    assert list(video.timings) == ["text", "denoise", "decode"]
    assert video.frames.shape == (9, 48, 64, 3) and video.frames.dtype == np.uint8
    assert video.fps == 8


def test_closing_stops_at_every_step(
    pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the k-th item is closed, neither transformer nor autoencoder runs again."""
    calls: list[str] = []
    for name, method in (("transformer", "forward"), ("vae", "decode_stream")):
        part = getattr(pipeline.components, name)
        monkeypatch.setattr(part, method, _counted(getattr(part, method), name, calls))
    for stop, (stage, step, _) in enumerate(STAGES):
        calls.clear()
        running = pipeline.generate(GenerationRequest("a cat", **SMALL))
        last = [next(running) for _ in range(stop + 1)][-1]
        running.close()
        assert isinstance(last, Progress) and (last.stage, last.step) == (stage, step)
        forwards = {"text": 0, "denoise": step, "decode": 3}[stage]
        decodes = int((stage, step) == ("decode", 1))
        passes = forwards  # both of guidance are one batch, as tokens are few
        assert (calls.count("transformer"), calls.count("vae")) == (passes, decodes)
        assert next(running, None) is None


def _counted(method: Callable[..., Any], name: str, calls: list[str]) -> Callable[..., Any]:
    def count(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return method(*arguments, **options)

    return count


@pytest.mark.parametrize("form", ["embedded", "t2v", "ti2v"])
def test_the_same_request_gives_the_same_frames(build: Build, form: str) -> None:
    """Bit by bit, also in a second opening and after another request; not with another seed."""
    size = SMALL | ({"height": 64} if form == "ti2v" else {})
    request = GenerationRequest("a red cat walks left", seed=3, **size)
    pipeline = VideoPipeline.from_pretrained(build(form))
    first = film(pipeline, request).frames
    other = film(pipeline, GenerationRequest("a red cat walks left", seed=4, **size)).frames
    assert np.array_equal(film(pipeline, request).frames, first)
    assert np.array_equal(film(VideoPipeline.from_pretrained(build(form)), request).frames, first)
    assert np.abs(other.astype(int) - first).mean() > 1  # of 255


def test_threads_do_not_disturb_each_other(build: Build) -> None:
    """UniPC keeps a history and Wan's autoencoder a cache; interleaved requests share neither."""
    pipeline = VideoPipeline.from_pretrained(build("t2v", "unipc"))
    requests = [GenerationRequest("a cat", seed=seed, **SMALL) for seed in range(3)]
    alone = [film(pipeline, request).frames for request in requests]

    running = [pipeline.generate(request) for request in requests]
    for _ in STAGES:  # step by step in turn
        for iterator in running:
            next(iterator)
    together = [next(iterator) for iterator in running]
    for frames, video in zip(alone, together, strict=True):
        assert isinstance(video, Video) and np.array_equal(video.frames, frames)

    made: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: made.update({i: film(pipeline, requests[i]).frames}))
        for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(made[i], alone[i]) for i in range(3))


def test_given_noise_takes_the_place_of_the_seed(pipeline: VideoPipeline) -> None:
    request = GenerationRequest("a cat", seed=5, **SMALL)
    noise = torch.randn(1, 16, 3, 12, 16, generator=torch.Generator().manual_seed(5))
    assert np.array_equal(
        film(pipeline, GenerationRequest("a cat", seed=9, **SMALL), latents=noise).frames,
        film(pipeline, request).frames,
    )
    with pytest.raises(RequestError, match=r"allowed: noise of shape \(1, 16, 3, 12, 16\)"):
        pipeline.generate(request, latents=noise[:, :, :2])


def test_the_words_asked_for_change_the_frames(pipeline: VideoPipeline) -> None:
    plain = GenerationRequest("a red cat", **SMALL)
    frames = film(pipeline, plain).frames.astype(int)
    for change in (
        {"prompt": "a ball walks right"},
        {"negative_prompt": "blurry"},
        {"guidance_scale": 6.0},
        {"flow_shift": 9.0},
        {"num_inference_steps": 5},
    ):
        request = GenerationRequest(**{"prompt": "a red cat", **SMALL, **change})
        assert np.abs(film(pipeline, request).frames - frames).max() > 1, change


def test_defaults_are_the_checkpoint_s(pipeline: VideoPipeline) -> None:
    *progress, video = pipeline.generate(GenerationRequest("a cat"))
    assert isinstance(video, Video) and video.frames.shape == (17, 48, 64, 3)
    assert [item.steps for item in progress if item.stage == "denoise"][0] == 3


def test_values_that_are_not_finite_are_an_error(pipeline: VideoPipeline) -> None:
    noise = torch.full((1, 16, 3, 12, 16), float("nan"))
    with pytest.raises(FloatingPointError, match="not finite"):
        film(pipeline, GenerationRequest("a cat", **SMALL), latents=noise)


BAD = [
    ("embedded", {"prompt": " "}, "prompt is ' '; allowed: text"),
    ("embedded", {"prompt": None}, "prompt is None; allowed: text"),
    ("embedded", {"negative_prompt": 3}, "negative_prompt is 3; allowed: text"),
    ("embedded", {"width": 128, "height": 96}, "size is '128x96'; allowed: 64x48, 48x64$"),
    ("embedded", {"width": 64}, "height is None; allowed: a whole number of pixels, for both"),
    ("embedded", {"width": 64, "height": -48}, "height is -48"),
    ("embedded", {"width": "64", "height": 48}, "width is '64'"),
    ("embedded", {"num_frames": 16}, "num_frames is 16; allowed: 9, 17$"),
    ("embedded", {"num_frames": True}, "num_frames is True"),
    ("embedded", {"fps": 0}, "fps is 0; allowed: a whole number from 1 to 240"),
    ("embedded", {"num_inference_steps": 0}, "num_inference_steps is 0; allowed: .* 1 to 1000"),
    ("embedded", {"num_inference_steps": 2.5}, "num_inference_steps is 2.5"),
    ("embedded", {"guidance_scale": float("nan")}, "guidance_scale is nan; allowed: .* 0 to 100"),
    ("embedded", {"guidance_scale": -1}, "guidance_scale is -1"),
    ("embedded", {"guidance_scale_2": 3.0}, "guidance_scale_2 is 3.0; .* has one expert"),
    ("embedded", {"flow_shift": 0}, "flow_shift is 0; allowed: a number above 0"),
    ("embedded", {"seed": -1}, "seed is -1; allowed: a whole number from 0"),
    ("embedded", {"seed": 2**63}, "seed is 9223372036854775808"),
    (
        "embedded",
        {"image": Image.new("RGB", (8, 8))},
        "image is .*; allowed: none, .* text and remix only",
    ),
    ("t2v", {"width": 72, "height": 64}, "size is '72x64'; allowed: 832x480, .* multiples of 16"),
    ("t2v", {"width": 2048, "height": 1024}, "at most 921600 pixels in all"),
    ("ti2v", {"width": 48, "height": 64}, "multiples of 32"),
    ("ti2v", {"image": "cat.png"}, "image is 'cat.png'; allowed: a PIL image"),
    ("i2v", {}, "image is None; allowed: a first frame"),
]


@pytest.mark.parametrize(("form", "fields", "message"), BAD)
def test_bad_requests_are_refused_by_name(
    build: Build, form: str, fields: dict[str, Any], message: str
) -> None:
    """At once: before the iterator is asked for anything, and before any work."""
    pipeline = VideoPipeline.from_pretrained(build(form))
    with pytest.raises(RequestError, match=message) as refusal:
        pipeline.generate(GenerationRequest(**{"prompt": "a cat", **fields}))
    assert refusal.value.field in {"size", "height", *fields, "image"}
