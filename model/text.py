"""Prompts to text embeddings, and the small vocabulary and encoder of models trained from scratch.

The encoder may be any of transformers' UMT5 encoders; what leaves this module is what Wan's
network was trained on: embeddings cut at the prompt's length, then zeros up to a fixed length.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

PAD, END, UNKNOWN = "[PAD]", "</s>", "[UNK]"
"""Special tokens, with ids 0, 1 and 2: UMT5's own order of pad, end and unknown."""


def encode_prompts(
    prompts: Sequence[str],
    tokenizer: Any,
    text_encoder: Any,
    max_sequence_length: int,
    device: torch.device | None = None,
) -> Tensor:
    """Embed prompts as Wan's pipelines do: clean, tokenize, encode, zero what lies past the end.

    A prompt of more than `max_sequence_length` tokens is cut there. The zero rows are not padding
    to be masked: a Wan network attends to them.

    Args:
        prompts: B prompts.
        tokenizer: a transformers tokenizer that appends its end token.
        text_encoder: a transformers encoder of width D.
        max_sequence_length: L, the length the network was trained with.
        device: where the encoder computes, if that is not where its weights are.

    Returns:
        `(B, L, D)`, on that device and in the encoder's dtype.
    """
    tokens = tokenizer(
        [prompt_clean(prompt) for prompt in prompts],
        padding="max_length",
        max_length=max_sequence_length,
        truncation=True,
        add_special_tokens=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    device = device or text_encoder.device
    mask = tokens.attention_mask.to(device)
    hidden = text_encoder(tokens.input_ids.to(device), mask).last_hidden_state
    embeddings: Tensor = torch.where(mask.bool().unsqueeze(-1), hidden, 0.0)
    return embeddings


def build_tokenizer(
    words: Sequence[str], synonyms: Mapping[str, str] | None = None
) -> PreTrainedTokenizerFast:
    """Make a word-level tokenizer: lower case, split at white space and around punctuation.

    Args:
        words: the vocabulary, lower case, each a run of letters and digits or of punctuation;
            word i gets id 3 + i. Punctuation is skipped where the vocabulary has none.
        synonyms: words to be read as another one, as "an" is as "a".

    Raises:
        ValueError: for a word that is repeated, or that the tokenizer itself would split or fold.
    """
    splitter = pre_tokenizers.Whitespace()
    for word in words:
        if [piece for piece, _ in splitter.pre_tokenize_str(word.lower())] != [word]:
            raise ValueError(
                f"words: {word!r} can never be a token; allowed are lower-case runs of letters "
                f"and digits, or of punctuation"
            )
    vocabulary = {word: i for i, word in enumerate([PAD, END, UNKNOWN, *words])}
    if len(vocabulary) != 3 + len(words):
        repeated = sorted({word for word in words if words.count(word) > 1})
        raise ValueError(f"words: {repeated} given more than once; each word is one token")
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    read_as = [(rf"\b{re.escape(word)}\b", meant) for word, meant in (synonyms or {}).items()]
    if all(re.fullmatch(r"\w+", word) for word in words):
        read_as.append((r"[^\w\s]+", " "))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), *(normalizers.Replace(Regex(old), new) for old, new in read_as)]
    )
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN
    )


def vocabulary(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The words that `build_tokenizer` was given, in their order."""
    words = tokenizer.get_vocab()
    return sorted(words.keys() - {PAD, END, UNKNOWN}, key=words.__getitem__)


def build_text_encoder(vocabulary_size: int) -> UMT5EncoderModel:
    """Make a randomly initialised UMT5 encoder, small enough to train along with the network.

    Two layers of width 128 with four heads; no dropout, so that a step depends on its data alone.
    `vocabulary_size` is `len(build_tokenizer(words))`, the special tokens included.
    """
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary_size,
            d_model=128,
            d_kv=32,
            num_heads=4,
            num_layers=2,
            d_ff=256,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    attend_nearby(encoder)
    return encoder


NEIGHBOURS = (-1, 1, -2, 2)
"""Where the heads of a fresh encoder look first, in words from their own."""
PREFERENCE = 4.0
"""Logit by which they do; e⁴ is more than the words of a caption together."""


@torch.no_grad()
def attend_nearby(encoder: UMT5EncoderModel) -> None:
    """Set the position biases so that head h looks at the word NEIGHBOURS[h mod 4] away.

    From random biases near zero a small encoder does not learn the order of words: it starts, and
    stays, a bag of words, since no single word's weight gains by knowing its neighbour.
    """
    for block in encoder.encoder.block:
        bias = block.layer[0].SelfAttention.relative_attention_bias.weight  # (buckets, heads)
        later = len(bias) // 2  # buckets of words further on; the first ones are one word each
        bias.zero_()
        for head in range(bias.shape[1]):
            offset = NEIGHBOURS[head % len(NEIGHBOURS)]
            bias[abs(offset) + later * (offset > 0), head] = PREFERENCE
