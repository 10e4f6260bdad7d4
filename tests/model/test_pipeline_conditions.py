"""What a video starts from: the sampler's answers against tokens laid out by hand.

The oracle builds every column of the token contract from literal numbers (which tokens are clean,
at which τ a frame is shown), asks the network through `forward_tokens` and integrates by Euler's
rule. Bound 1e-5, relative by norm: the same tokens in the same order, fp32, three steps; measured
2e-7 and less. Faults planted and seen: a frame shown one latent frame late or early, the wrong
frames of a prefix, a clean token at the clip's timestep, the flag of references left out.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.latents import encode_video
from model.pipeline import GenerationRequest, Video, VideoPipeline
from model.request import resolve
from model.tokens import Segments, Tokens

Build = Callable[..., Path]
BOUND = 1e-5
SIZE = {"height": 48, "width": 64}
STEPS = 3
TOKENS = (5, 6, 8)
"""T, H and W of 17 frames of 48x64: 4x4x4 pixels a latent cell, 2x2 cells a token."""


def clip(frames: int, phase: int = 0, height: int = 48, width: int = 64) -> np.ndarray:
    """A video no two of whose frames are alike."""
    t, y, x = np.mgrid[phase : phase + frames, :height, :width]
    return np.stack([3 * x + 20 * t, 5 * y + 9 * t, x * y + 30 * t], -1).astype(np.uint8)


def picture(phase: int) -> Image.Image:
    return Image.fromarray(clip(1, phase)[0])


BOX = np.zeros((48, 64), bool)
BOX[8:20, 24:48] = True


@pytest.fixture(scope="module")
def pipeline(build: Build) -> VideoPipeline:
    return VideoPipeline.from_pretrained(build("conditioned", "euler"))


def made(pipeline: VideoPipeline, request: GenerationRequest) -> tuple[Tensor, np.ndarray]:
    """The latents that `generate` decodes, and the frames of its answer."""
    seen: list[Tensor] = []
    decode = pipeline.decode
    pipeline.decode = lambda latents: (seen.append(latents), decode(latents))[1]  # type: ignore[method-assign]
    try:
        *_, video = pipeline.generate(request)
    finally:
        del pipeline.decode
    assert isinstance(video, Video)
    return seen[0], video.frames


def asked(**fields: Any) -> GenerationRequest:
    common = {"seed": 5, "num_inference_steps": STEPS, "guidance_scale": 1.0, "num_frames": 17}
    return GenerationRequest("a red cat walks left", **{**SIZE, **common, **fields})


def encoded(pipeline: VideoPipeline, frames: np.ndarray) -> Tensor:
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        return encode_video(pipeline.components.vae, video)


def patches(latents: Tensor) -> Tensor:
    """Patches of 1x2x2 of latents `(1, C, T, h, w)`, channels first."""
    _, c, t, h, w = latents.shape
    cut = latents.reshape(c, t, h // 2, 2, w // 2, 2)
    return cut.permute(1, 2, 4, 0, 3, 5).reshape(-1, c * 4)


@torch.no_grad()
def by_hand(
    pipeline: VideoPipeline,
    clean: Tensor,
    known: Tensor,
    shown: Sequence[tuple[float, np.ndarray]] = (),
    begin: int = 0,
) -> Tensor:
    """Latents from seed 5.

    Args:
        clean: latents, of which those of `known` `(T, H, W)` tokens are given.
        shown: τ and pixels of the frames that are shown beside the clip.
        begin: the first step, from which on the rest of `clean` is drawn anew; 0 for noise.
    """
    parts = pipeline.components
    scheduler = parts.scheduler.from_config(parts.scheduler.config)
    scheduler.set_timesteps(STEPS)
    text = pipeline.encode_text(resolve(asked(), pipeline.description))[0]
    noise = torch.randn(1, 16, 5, 12, 16, generator=torch.Generator().manual_seed(5))
    sigma = scheduler.sigmas[begin]
    x = patches((1 - sigma) * clean + sigma * noise if begin else noise)
    given, still = patches(clean), [(tau, patches(encoded(pipeline, f[None]))) for tau, f in shown]
    n, m = len(x), 48 * len(still)
    places = [(float(t), float(y), float(x)) for t in range(5) for y in range(6) for x in range(8)]
    places += [(tau, float(y), float(x)) for tau, _ in still for y in range(6) for x in range(8)]
    noisy = torch.cat([~known.flatten(), torch.zeros(m, dtype=torch.bool)])
    for step in range(begin, STEPS):
        x = torch.where(noisy[:n, None], x, given)
        tokens = Tokens(
            patches=torch.cat([x, *(p for _, p in still)]),
            coords=torch.tensor(places),
            timesteps=torch.tensor([0.0, float(scheduler.timesteps[step])]),
            segments=Segments((n + m,)),
            timestep_index=noisy.long(),
            reference=torch.arange(n + m) >= n,
        )
        out = parts.transformer.forward_tokens(tokens, text, Segments((len(text),)))[:n]
        velocity = out.unflatten(1, (4, 16)).transpose(1, 2).flatten(1)  # the head's channels last
        x = x + (scheduler.sigmas[step + 1] - scheduler.sigmas[step]) * velocity
    x = torch.where(noisy[:n, None], x, given)
    cells = x.reshape(5, 6, 8, 16, 2, 2).permute(3, 0, 1, 4, 2, 5)
    return cells.reshape(1, 16, 5, 12, 16)


def first(latents: Tensor) -> tuple[Tensor, Tensor]:
    """The latents of a clip's first frames among zeros, and which tokens these are."""
    clean, known = torch.zeros(1, 16, 5, 12, 16), torch.zeros(TOKENS, dtype=torch.bool)
    clean[:, :, : latents.shape[2]] = latents
    known[: latents.shape[2]] = True
    return clean, known


A, B, HEAD, TAIL = clip(1, 3)[0], clip(1, 60)[0], clip(11, 7), clip(7, 40)
# Fields; pixels of the first frames that are given in place; τ and pixels of those shown beside.
CASES: dict[str, tuple[dict[str, Any], np.ndarray | None, list[tuple[float, np.ndarray]]]] = {
    "first": ({"image": picture(3)}, A[None], []),
    "first-last": (
        {"image": picture(3), "last_image": picture(60)}, A[None], [(16 / 4 + 1.5 / 4, B)],
    ),
    "last": ({"last_image": picture(60)}, None, [(4.375, B)]),
    "extend": ({"prefix": HEAD}, HEAD[6:], []),
    "extend-short": ({"prefix": HEAD[:3]}, HEAD[2:3], []),
    "extend-to-last": (
        {"prefix": HEAD, "last_image": picture(60)}, HEAD[6:], [(4.375, B)],
    ),
    "extend-backward": ({"suffix": TAIL}, None, [(3.375, TAIL[0]), (4.375, TAIL[4])]),
    "extend-backward-short": ({"suffix": TAIL[:4]}, None, [(4.375, TAIL[0])]),
    "join": ({"prefix": HEAD, "suffix": TAIL[:3]}, HEAD[6:], [(4.375, TAIL[0])]),
    "keyframes": (
        {"keyframes": {8: picture(60), 3: picture(3)}}, None, [(1.125, A), (2.375, B)],
    ),
    "keyframe-at-the-start": ({"keyframes": {0: picture(3)}}, None, [(0.0, A)]),
    "first-and-keyframe": (
        {"image": picture(3), "keyframes": {9: picture(60)}}, A[None], [(2.625, B)],
    ),
    "loop": ({"image": picture(3), "loop": True}, A[None], [(4.375, A)]),
    "loop-of-a-video": (
        {"prefix": HEAD, "loop": True}, HEAD[6:], [(3.375, HEAD[0]), (4.375, HEAD[4])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_latents_are_those_of_tokens_laid_out_by_hand(pipeline: VideoPipeline, case: str) -> None:
    """And what is given in place is in the answer's latents bit by bit."""
    fields, frames, shown = CASES[case]
    in_place = torch.zeros(1, 16, 0, 12, 16) if frames is None else encoded(pipeline, frames)
    clean, known = first(in_place)
    expected = by_hand(pipeline, clean, known, shown)
    latents, _ = made(pipeline, asked(**fields))
    error = float((latents - expected).norm() / expected.norm())
    print(f"{case:22} {error:.1e}")
    assert error <= BOUND
    assert torch.equal(latents[:, :, : in_place.shape[2]], in_place)


def inside(mask: np.ndarray) -> Tensor:
    """The tokens that a mask `(T, 48, 64)` touches, by looking at every pixel of each."""
    touched = torch.zeros(TOKENS, dtype=torch.bool)
    for t, y, x in np.argwhere(mask):
        touched[(t + 3) // 4, y // 8, x // 8] = True
    return touched


MOVING = np.zeros((20, 48, 64), np.uint8)
for t in range(20):
    MOVING[t, 4 + t : 20 + t, 10:30] = 200


@pytest.mark.parametrize(
    ("mask", "still", "begin"),
    [(BOX, False, 0), (MOVING, False, 0), (BOX, True, 0), (MOVING, False, 1)],
)
def test_what_a_mask_leaves_is_kept_and_what_it_covers_drawn_anew(
    pipeline: VideoPipeline, mask: np.ndarray, still: bool, begin: int
) -> None:
    """A box and one that moves, over a video and a still, from noise and from part of it."""
    source = np.repeat(A[None], 17, axis=0) if still else clip(19)
    full = np.broadcast_to(mask >= 128 if mask.dtype != bool else mask, (20, 48, 64))[:17]
    known, clean = ~inside(full), encoded(pipeline, source[:17])
    fields = {"image": picture(3)} if still else {"video": source}
    strength = {"strength": 0.7} if begin else {}  # 2 of 3 steps
    latents, frames = made(pipeline, asked(**fields, **strength, mask=mask))
    expected = by_hand(pipeline, clean, known, begin=begin)
    assert float((latents - expected).norm() / expected.norm()) <= BOUND
    cells = known.repeat_interleave(2, 1).repeat_interleave(2, 2).expand_as(latents)
    assert torch.equal(latents[cells], clean[cells]) and 0 < known.sum() < known.numel()
    assert frames.shape == (17, 48, 64, 3)


def test_what_was_under_a_mask_is_not_shown_unless_strength_asks_for_it(build: Build) -> None:
    """UniPC's first sigma is under 1, so a source that is there at all shows, bit by bit."""
    pipeline = VideoPipeline.from_pretrained(build("conditioned", "unipc"))
    one, other = clip(17), clip(17)
    other[:, BOX] = 255 - other[:, BOX]
    for strength, alike in ((None, True), (0.7, False)):
        latents = [
            made(pipeline, asked(video=video, mask=BOX, strength=strength))[0]
            for video in (one, other)
        ]
        assert torch.equal(*latents) == alike


@pytest.mark.parametrize("scheduler", ["euler", "unipc"])
def test_under_guidance_too_given_latents_come_back_unchanged(build: Build, scheduler: str) -> None:
    pipeline = VideoPipeline.from_pretrained(build("conditioned", scheduler))
    latents, _ = made(pipeline, asked(prefix=HEAD, suffix=TAIL, guidance_scale=4.0))
    assert torch.equal(latents[:, :, :2], encoded(pipeline, HEAD[6:]))


def test_a_reference_is_encoded_without_the_frames_it_must_not_reveal(
    pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone; so frames of a suffix between those that are shown change nothing."""
    vae, sizes = pipeline.components.vae, []
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda x: (sizes.append(x.shape[2]), encode(x))[1])
    other = TAIL.copy()
    other[[1, 2, 3, 5, 6]] = 0
    one, two = (made(pipeline, asked(suffix=suffix))[0] for suffix in (TAIL, other))
    assert sizes == [1, 1, 1, 1] and torch.equal(one, two)
    changed = TAIL.copy()
    changed[4] = 0
    assert not torch.equal(made(pipeline, asked(suffix=changed))[0], one)


def decoded(pipeline: VideoPipeline, latents: Tensor) -> np.ndarray:
    return np.concatenate(list(pipeline.decode(latents)))


def test_answers_hold_the_frames_they_go_on_from_whole_and_untouched(
    pipeline: VideoPipeline,
) -> None:
    """New frames are those of the clip beyond what was given of it; none is lost or doubled."""
    for fields, start, stop in (
        ({"prefix": HEAD}, 5, 17),
        ({"prefix": HEAD[:3]}, 1, 17),
        ({"suffix": TAIL}, 0, 12),
        ({"suffix": TAIL[:4]}, 0, 16),
        ({"prefix": HEAD, "suffix": TAIL}, 5, 12),
        ({"prefix": HEAD, "suffix": TAIL[:1]}, 5, 16),
        ({"prefix": HEAD, "loop": True}, 5, 12),
        ({"image": picture(3), "loop": True}, 0, 16),
        ({"image": picture(3), "last_image": picture(60)}, 0, 17),
    ):
        latents, frames = made(pipeline, asked(**fields))
        none = clip(0)
        new = decoded(pipeline, latents)[start:stop]
        expected = [fields.get("prefix", none), new, fields.get("suffix", none)]
        assert np.array_equal(frames, np.concatenate(expected)), fields


def test_frames_of_another_size_are_stretched(pipeline: VideoPipeline) -> None:
    large = clip(6, 2, 96, 80)
    fitted = [
        np.asarray(Image.fromarray(f).resize((64, 48), Image.Resampling.LANCZOS)) for f in large
    ]
    mask = np.kron(BOX[::2, ::2], np.ones((4, 4), bool))
    _, frames = made(pipeline, asked(prefix=large, num_frames=9))
    assert np.array_equal(frames[:6], np.stack(fitted)) and len(frames) == 6 + 9 - 5
    one, two = (made(pipeline, asked(image=picture(3), mask=m))[0] for m in (BOX, mask))
    assert torch.equal(one, two)


def test_a_prefix_of_wan_s_autoencoder_says_nothing_of_what_follows(
    build: Build, tmp_path: Path
) -> None:
    """A folder may claim `extend`; its first latents are those of the whole video's beginning."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(build("t2v", "euler"), folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["capabilities"] = ["text", "extend"]
    (folder / "model_index.json").write_text(json.dumps(index))
    pipeline = VideoPipeline.from_pretrained(folder)
    latents, frames = made(pipeline, asked(prefix=HEAD, num_frames=9))
    whole = encoded(pipeline, np.concatenate([HEAD[6:], clip(8, 99)]))
    assert torch.equal(latents[:, :, :2], encoded(pipeline, HEAD[6:]))
    assert float((latents[:, :, :2] - whole[:, :, :2]).abs().max()) <= 1e-5
    assert len(frames) == 11 + 9 - 5 and np.array_equal(frames[:11], HEAD)
