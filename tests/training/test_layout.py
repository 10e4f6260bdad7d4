"""The text encoder learns from captions and layouts which word goes with which."""

from collections.abc import Sequence
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
WORDS = (*COLOURS, *SIDES, "a", "of", "square", "circle")
CONFIG = TextConfig(steps=250, batch=60, lr=2e-3)


def sides_dataset(colours: Sequence[str] = COLOURS) -> LatentDataset:
    """Clips whose left half is in the channel of one colour and whose right half in another's.

    Every caption has a twin with the colours swapped: the same words, the other picture.
    """
    latents, captions = [], []
    for square, circle in permutations(range(len(colours)), 2):
        for side in SIDES:
            left, right = (square, circle) if side == "left" else (circle, square)
            clip = torch.zeros(1, len(colours), 4, 4)
            clip[0, left, :, :2] = 1
            clip[0, right, :, 2:] = 1
            latents.append(clip.bfloat16().view(torch.int16).numpy())
            captions.append(f"a {colours[square]} square {side} of a {colours[circle]} circle")
    sizes = np.array([clip.shape for clip in latents])
    offsets = np.concatenate([[0], sizes.prod(axis=1).cumsum()[:-1]])
    flat = np.concatenate([clip.ravel() for clip in latents])
    return LatentDataset(flat, flat, offsets, sizes, captions)


def teach(
    encoder: UMT5EncoderModel, words: Sequence[str], dataset: LatentDataset, known: int = 0
) -> None:
    encoded = build_tokenizer(words)(
        dataset.captions, padding="max_length", max_length=12, return_tensors="pt"
    )
    ids = encoded.input_ids, encoded.attention_mask
    lines: list[str] = []
    teach_layout(encoder, *ids, dataset, CONFIG, seed=0, known=known, say=lines.append)
    assert [line.split(" error")[0] for line in lines] == [f"text 200/{CONFIG.steps}"]


def ids(text: str, words: Sequence[str] = WORDS) -> Tensor:
    token_ids: Tensor = build_tokenizer(words)(text, return_tensors="pt").input_ids
    return token_ids


def taught(knows_order: bool = True) -> tuple[UMT5EncoderModel, Tensor, Tensor]:
    """Return a fresh encoder after its lessons, and the ids of a caption and of its twin."""
    torch.manual_seed(0)
    encoder = build_text_encoder(3 + len(WORDS))
    if not knows_order:
        forget_order(encoder)
    teach(encoder, WORDS, sides_dataset())
    one, other = "a red square left of a blue circle", "a blue square left of a red circle"
    return encoder, ids(one), ids(other)


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


def test_an_encoder_that_knows_words_learns_the_others_alone() -> None:
    """What has no new word is told as before, to the last bit; twins with one come apart."""
    encoder, old, _ = taught()
    words, colours = (*WORDS, "grey"), (*COLOURS, "grey")
    encoder.resize_token_embeddings(3 + len(words))
    before = encoder(input_ids=old).last_hidden_state
    teach(encoder, words, sides_dataset(colours), known=3 + len(WORDS))
    assert torch.equal(encoder(input_ids=old).last_hidden_state, before)
    new = "a grey square left of a blue circle", "a blue square left of a grey circle"
    assert difference(encoder, *(ids(text, words) for text in new)) > 0.3


def test_an_encoder_that_knows_all_words_stays_as_it_is() -> None:
    encoder = build_text_encoder(3 + len(WORDS))
    before = [parameter.clone() for parameter in encoder.parameters()]
    lessons = torch.zeros(60, 12), torch.ones(60, 12), sides_dataset(), CONFIG
    teach_layout(encoder, *lessons, seed=0, known=3 + len(WORDS), say=print)
    for one, other in zip(encoder.parameters(), before, strict=True):
        assert torch.equal(one, other)


def test_twins_have_the_same_words_and_another_order() -> None:
    captions = ["a b c", "c a b", "a b", "a a b", "a b c", "b a b"]
    assert twins(captions).tolist() == [0, 1, 4]
