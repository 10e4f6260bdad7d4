"""The embedded checkpoints: standard folders, small, and the same models in diffusers and here."""

from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

import model.autoencoder  # noqa: F401  (diffusers opens our autoencoder once its module is known)
from model.pipeline import GenerationRequest, VideoPipeline

ROOT = Path(__file__).parents[2] / "model"
PROMPT = "an orange cat with four legs walks left on a room background"
MEGABYTE = 10**6


@pytest.fixture(params=["pretrained", "pretrained-wide"])
def folder(request: pytest.FixtureRequest) -> Path:
    return ROOT / str(request.param)


def test_it_is_small_and_has_a_card(folder: Path) -> None:
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    assert sum(sizes) <= 40 * MEGABYTE and max(sizes) <= 16 * MEGABYTE
    card = (folder / "README.md").read_text()
    for told in ("Data", "Steps", "Hardware", "Hours", "loss.png", "cannot"):
        assert told in card, told


def test_diffusers_opens_it_and_draws_the_same_video(folder: Path) -> None:
    """Pixels of 4 steps with guidance differ by at most 2 of 255: fp32 rounding, then uint8's."""
    ours = VideoPipeline.from_pretrained(folder)
    noise = torch.randn(1, 24, 5, 16, 16, generator=torch.Generator().manual_seed(3))
    request = GenerationRequest(PROMPT, num_inference_steps=4)
    video = ours.render(request, latents=noise)
    theirs = diffusers.WanPipeline.from_pretrained(folder)
    theirs.set_progress_bar_config(disable=True)
    frames = theirs(
        PROMPT,
        height=64,
        width=64,
        num_frames=17,
        num_inference_steps=4,
        guidance_scale=ours.description.guidance_scale,
        max_sequence_length=ours.description.max_sequence_length,
        latents=noise,
        output_type="np",
    ).frames[0]
    assert np.abs(frames * 255 - video.frames).max() <= 2


def test_every_word_it_tells_of_is_a_token_and_every_example_is_made_of_them(folder: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(folder)
    tokenizer, told = pipeline.components.tokenizer, pipeline.description
    assert told.words and told.examples and told.grammar
    for text in (*told.words, *told.examples):
        assert tokenizer.unk_token_id not in tokenizer(text).input_ids, text
    assert tokenizer.unk_token_id in tokenizer("a dragon").input_ids
