"""The text encoder learns from captions and layouts which word goes with which."""

from itertools import permutations

import numpy as np
import torch
from torch import Tensor
from transformers import UMT5EncoderModel

from model.text import build_text_encoder, build_tokenizer
from training.config import TextConfig
from training.data.cache import LatentDataset
from training.layout import teach_layout, twins

COLOURS = ("red", "green", "blue", "pink", "white", "black")
SIDES = ("left", "right")
CONFIG = TextConfig(steps=250, batch=60, lr=2e-3)


def sides_dataset() -> LatentDataset:
    """Clips whose left half is in the channel of one colour and whose right half in another's.

    Every caption has a twin with the colours swapped: the same words, the other picture.
    """
    latents, captions = [], []
    for square, circle in permutations(range(len(COLOURS)), 2):
        for side in SIDES:
            left, right = (square, circle) if side == "left" else (circle, square)
            clip = torch.zeros(1, len(COLOURS), 4, 4)
            clip[0, left, :, :2] = 1
            clip[0, right, :, 2:] = 1
            latents.append(clip.bfloat16().view(torch.int16).numpy())
            captions.append(f"a {COLOURS[square]} square {side} of a {COLOURS[circle]} circle")
    sizes = np.array([clip.shape for clip in latents])
    offsets = np.concatenate([[0], sizes.prod(axis=1).cumsum()[:-1]])
    flat = np.concatenate([clip.ravel() for clip in latents])
    return LatentDataset(flat, flat, offsets, sizes, captions)


def taught(knows_order: bool = True) -> tuple[UMT5EncoderModel, Tensor, Tensor]:
    """Return a fresh encoder after its lessons, and the ids of a caption and of its twin."""
    dataset = sides_dataset()
    tokenizer = build_tokenizer([*COLOURS, *SIDES, "a", "of", "square", "circle"])
    encoded = tokenizer(dataset.captions, padding="max_length", max_length=12, return_tensors="pt")
    torch.manual_seed(0)
    encoder = build_text_encoder(len(tokenizer))
    if not knows_order:
        forget_order(encoder)
    lines: list[str] = []
    ids = encoded.input_ids, encoded.attention_mask
    teach_layout(encoder, *ids, dataset, CONFIG, seed=0, say=lines.append)
    assert [line.split(" error")[0] for line in lines] == [f"text 200/{CONFIG.steps}"]
    twins = ["a red square left of a blue circle", "a blue square left of a red circle"]
    ids = [tokenizer(text, return_tensors="pt").input_ids for text in twins]
    return encoder, ids[0], ids[1]


@torch.no_grad()
def difference(encoder: UMT5EncoderModel, ids: Tensor, twin: Tensor) -> float:
    """How far apart the mean embeddings of two captions are, relative to their size."""
    one, other = (encoder(input_ids=x).last_hidden_state.mean(1) for x in (ids, twin))
    return float((one - other).norm() / one.norm())


def test_captions_of_the_same_words_come_apart() -> None:
    assert difference(*taught()) > 0.3


def test_it_is_the_start_at_neighbours_that_brings_them_apart() -> None:
    """The same lessons from biases near zero leave a bag of words."""
    assert difference(*taught(knows_order=False)) < 0.1


@torch.no_grad()
def forget_order(encoder: UMT5EncoderModel) -> None:
    for block in encoder.encoder.block:
        block.layer[0].SelfAttention.relative_attention_bias.weight.normal_(0, 0.09)


def test_lessons_depend_on_the_seed_alone() -> None:
    (one, *_), _ = taught(), torch.rand(3)
    two, *_ = taught()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_twins_have_the_same_words_and_another_order() -> None:
    captions = ["a b c", "c a b", "a b", "a a b", "a b c", "b a b"]
    assert twins(captions).tolist() == [0, 1, 4]
