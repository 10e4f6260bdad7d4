"""Text reaches the network as Wan's pipelines send it, through tokenizers large and small."""

from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline
from transformers import PreTrainedTokenizerFast

from model.text import build_text_encoder, build_tokenizer, encode_prompts

WORDS = ["a", "cat", "walks", "left", ",", ".", "café", "3"]


def test_tokenizer_splits_at_spaces_and_punctuation_and_folds_case() -> None:
    tokenizer = build_tokenizer(WORDS)
    assert len(tokenizer) == 11
    ids = tokenizer("A CAT,  walks\tup left.").input_ids
    assert ids == [3, 4, 7, 5, 2, 6, 8, 1]  # "up" is unknown (2); the end token (1) closes
    assert tokenizer("Café 3").input_ids == [9, 10, 1]
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)


def test_synonyms_read_as_the_word_they_stand_for_and_only_whole(tmp_path: Path) -> None:
    build_tokenizer(["a", "cat", "and"], {"an": "a"}).save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert tokenizer("An cat and an cat").input_ids == tokenizer("a cat and a cat").input_ids


def test_punctuation_is_skipped_where_the_vocabulary_has_none() -> None:
    tokenizer = build_tokenizer(["a", "cat"])
    assert tokenizer("A cat... (a, cat)!").input_ids == tokenizer("a cat a cat").input_ids


def test_tokenizer_survives_saving(tmp_path: Path) -> None:
    build_tokenizer(WORDS).save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    text = "A cat, unknown."
    assert again(text).input_ids == build_tokenizer(WORDS)(text).input_ids == [3, 4, 7, 2, 8, 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "Cat"], "'Cat' can never be a token"),
        (["walks left"], "'walks left' can never be a token"),
        (["cat."], "'cat.' can never be a token"),
        ([""], "'' can never be a token"),
        (["a", "cat", "a"], r"\['a'\] given more than once"),
    ],
)
def test_words_that_cannot_be_tokens_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_tokenizer(words)


@pytest.mark.parametrize("length", [5, 12, 32])
def test_embeddings_are_those_of_diffusers(length: int) -> None:
    """Cleaned, cut at `length`, zero past the end. 1e-6: one batch of three against the same."""
    tokenizer = build_tokenizer(WORDS)
    torch.manual_seed(0)
    encoder = build_text_encoder(len(tokenizer)).eval()
    prompts = ["A cat &amp; a\ncat walks  left, left, left, left.", "", "cat"]
    pipeline = WanPipeline(tokenizer, encoder, vae=None, scheduler=None)
    with torch.no_grad():
        ours = encode_prompts(prompts, tokenizer, encoder, length)
        theirs, _ = pipeline.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=length
        )
    assert ours.shape == (3, length, 128)
    assert float((ours - theirs).abs().max()) <= 1e-6
    assert ours[2, :2].abs().min() > 0 and not ours[2, 2:].any()  # cat, end; then zeros


def test_text_encoder_is_the_small_one_and_has_no_dropout() -> None:
    encoder = build_text_encoder(40)
    config = encoder.config
    assert (config.d_model, config.num_layers, config.d_ff, config.num_heads) == (128, 2, 256, 4)
    assert config.vocab_size == 40 and config.pad_token_id == 0 and config.eos_token_id == 1
    ids = torch.tensor([[3, 4, 5, 1]])
    encoder.train()
    assert torch.equal(encoder(ids).last_hidden_state, encoder(ids).last_hidden_state)
