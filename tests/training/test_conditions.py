"""What the sampler shows of a request is what training shows of a clip, column by column."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from model.autoencoder import VideoAutoencoder
from model.components import Components
from model.conditions import encode_conditions
from model.latents import encode_frames, encode_video
from model.request import ResolvedRequest
from model.tokens import Tokens, beside
from training.batch import Batches
from training.config import TrainConfig, load_config
from training.data.cache import LatentDataset
from training.masks import Condition
from training.packing import Pack

ROOT = Path(__file__).parents[2]
PATCH = (1, 2, 2)
VIDEO = np.random.default_rng(0).integers(0, 256, (17, 16, 24, 3), np.uint8)
"""5 latent frames of 2x3 tokens."""


@pytest.fixture(scope="module")
def autoencoder() -> VideoAutoencoder:
    torch.manual_seed(0)
    return VideoAutoencoder(hidden_channels=8, num_blocks=0)


@pytest.fixture(scope="module")
@torch.no_grad()
def batches(autoencoder: VideoAutoencoder) -> Batches:
    """Of one clip, so that any position has it, under one condition or another."""
    clip = encode_frames(autoencoder, torch.from_numpy(VIDEO))[0].transpose(0, 1)
    stills = torch.from_numpy(VIDEO[::4]).permute(0, 3, 1, 2)[:, :, None] / 127.5 - 1
    alone = encode_video(autoencoder, stills)[:, :, 0]
    bits = [x.bfloat16().view(torch.int16).numpy().ravel() for x in (clip, alone)]
    sizes = np.array([clip.shape])
    dataset = LatentDataset(*bits, offsets=np.zeros(1, int), sizes=sizes, captions=["a"])
    overrides = ["network.reference_tokens=true", "batch.image_share=0"]
    return Batches(load_config(TrainConfig, ROOT / "configs" / "debug.yaml", overrides),
                   dataset, PATCH)  # fmt: skip


def still(frame: int) -> Image.Image:
    return Image.fromarray(VIDEO[frame])


def pixels(condition: Condition) -> np.ndarray:
    """The mask `(17, 16, 24)` of what a condition leaves to be drawn."""
    grown = np.kron(~condition.clean.numpy(), np.ones((4, 8, 8), bool))
    return grown[3:]


# Of each mode, the number of clean latent frames and the references to look for, and the fields.
MODES: dict[str, tuple[int, tuple[int, ...], dict[str, Any]]] = {
    "first": (1, (), {"image": still(0)}),
    "first_last": (1, (4,), {"image": still(0), "last_image": still(16)}),
    "last": (0, (4,), {"last_image": still(16)}),
    "extend": (2, (), {"prefix": VIDEO[:5]}),
    "extend_back": (0, (3, 4), {"suffix": VIDEO[12:]}),
    "join": (2, (3, 4), {"prefix": VIDEO[:5], "suffix": VIDEO[12:]}),
    "interpolate": (0, (0, 2, 4), {"keyframes": {n: still(n) for n in (16, 0, 8)}}),
    "inpaint": (0, (), {"video": VIDEO}),
    "outpaint": (0, (), {"video": VIDEO}),
    "blocks": (0, (), {"video": VIDEO}),
}


def drawn(batches: Batches, mode: str) -> tuple[Condition, Tokens]:
    """The first clip of the stream whose condition is the one to look for, given without noise."""
    prefix, references, _ = MODES[mode]
    for position in range(20_000):
        condition = batches._condition(batches._sample(position))
        whole = int(condition.clean.all(dim=(1, 2)).sum()) if "paint" not in mode else prefix
        if condition.mode != mode or condition.references != references:
            continue
        if mode != "blocks" and whole != prefix:
            continue
        tokens = batches.build(Pack((position,), (batches.length(position),))).tokens
        if 0 in tokens.timesteps:
            return condition, tokens
    raise AssertionError(f"{mode} was never drawn")


@torch.no_grad()
def sampled(autoencoder: VideoAutoencoder, fields: dict[str, Any]) -> Tokens:
    settings = ResolvedRequest(
        *("a", ""), height=16, width=24, num_frames=17, fps=8, num_inference_steps=1,
        guidance_scale=1.0, guidance_scale_2=1.0, flow_shift=None, seed=0, strength=1.0, lora=None,
        **fields,
    )  # fmt: skip
    config = SimpleNamespace(in_channels=16, patch_size=PATCH)
    parts = SimpleNamespace(
        vae=autoencoder, transformer=SimpleNamespace(config=config), device=torch.device("cpu"),
        placement=SimpleNamespace(dtype=torch.float32), latent_shape=lambda _: (1, 16, 5, 4, 6),
    )  # fmt: skip
    conditions = encode_conditions(cast(Components, parts), settings)
    latents = conditions.applied(torch.full((1, 16, 5, 4, 6), 9.0))
    noisy = torch.ones(30) if conditions.known is None else (~conditions.known).flatten().float()
    clip = Tokens.from_latents(latents, 500 * noisy[None], PATCH)
    return clip if conditions.references is None else beside(clip, conditions.references)


def given(tokens: Tokens) -> Tensor:
    """Which tokens are at timestep 0."""
    index = tokens.timestep_index
    if index is None:
        index = torch.arange(len(tokens.timesteps)).repeat_interleave(
            len(tokens.coords) // len(tokens.timesteps)
        )
    return tokens.timesteps[index] == 0


@pytest.mark.parametrize("mode", MODES)
def test_a_request_is_laid_out_as_training_lays_out_the_same_mode(
    batches: Batches, autoencoder: VideoAutoencoder, mode: str
) -> None:
    """Places, times, flags, and what is given: of the cache's bf16, 2^-8 of its size."""
    condition, trained = drawn(batches, mode)
    fields = dict(MODES[mode][2])
    if "video" in fields:
        fields["mask"] = pixels(condition)
    asked = sampled(autoencoder, fields)
    assert torch.equal(asked.coords, trained.coords)
    assert torch.equal(given(asked), given(trained)) and given(asked).any()
    flags = [t.reference if t.reference is not None else torch.zeros(30) for t in (asked, trained)]
    assert torch.equal(*(flag.bool() for flag in flags))
    told = given(asked)
    torch.testing.assert_close(asked.patches[told], trained.patches[told], rtol=2**-8, atol=1e-6)
    assert (asked.patches[~told] == 9).all(), "nothing else of the clip is shown"
    assert trained.loss_weight is not None and (trained.loss_weight[told] == 0).all()
