"""What is trained: the transformer and its text encoder, built, and saved as a checkpoint."""

import importlib.util
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

import world
from model.autoencoder import VideoAutoencoder
from model.loading import read_index
from model.manifest import CheckpointError, Manifest
from model.text import build_text_encoder, build_tokenizer, vocabulary
from model.tokens import Segments, Tokens
from model.transformer import SpacetimeTransformer
from training.config import ConfigError, TrainConfig
from training.files import whole_folder
from world import captions


class TextToVideo(nn.Module):
    """Tokens and captions to a velocity; one module, so that one wrapper distributes it."""

    def __init__(self, transformer: SpacetimeTransformer, text_encoder: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder: Any = text_encoder  # a UMT5EncoderModel, or what stands for it

    def forward(
        self, tokens: Tokens, input_ids: Tensor, mask: Tensor, image: Tensor | None = None
    ) -> Tensor:
        """Predict the velocity of packed tokens.

        Args:
            tokens: N tokens of S segments, or of S and one of padding.
            input_ids: `(S, L)`, or what else the text encoder takes, `(S, L, ...)`.
            mask: `(S, L)`, 1 where there is text; past it the text is zeros, and these attend.
            image: image tokens `(S, n, D)`, for a network that reads them.

        Returns:
            `(N, pt·ph·pw·C)`, fp32.
        """
        text = self.text_encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        text = (text * mask.unsqueeze(-1)).flatten(0, 1)
        count, length = mask.shape
        padding = (0,) * (len(tokens.segments) - count)
        segments = Segments((length,) * count + padding)
        shown = () if image is None else (
            image.flatten(0, 1), Segments((image.shape[1],) * count + padding)
        )  # fmt: skip
        velocity: Tensor = self.transformer.forward_tokens(tokens, text, segments, *shown).float()
        return velocity


def build(config: TrainConfig, tokenizer: PreTrainedTokenizerFast, channels: int) -> TextToVideo:
    """Build the network from scratch, or from the folder named by `init_from`.

    The output head and the modulation start at zero, so that the first predictions are zero and
    every block is ungated (Peebles and Xie, 2023, §3.2, adaLN-zero).
    """
    if config.init_from:
        return _open(config.init_from, len(tokenizer), config.network.reference_tokens)
    shape = config.network
    text_encoder = build_text_encoder(len(tokenizer))
    transformer = SpacetimeTransformer(
        num_attention_heads=shape.heads,
        attention_head_dim=shape.head_dim,
        num_layers=shape.layers,
        ffn_dim=shape.ffn_dim,
        freq_dim=shape.freq_dim,
        text_dim=text_encoder.config.d_model,
        in_channels=channels,
        out_channels=channels,
        reference_tokens=shape.reference_tokens,
    )
    for layer in (transformer.proj_out, transformer.condition_embedder.time_proj):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return TextToVideo(transformer, text_encoder)


def _open(folder: Path, vocabulary_size: int, reference_tokens: bool) -> TextToVideo:
    """Open a checkpoint's two networks; words new to it start near the mean of those it knows."""
    transformer = SpacetimeTransformer.from_pretrained(
        folder / "transformer", torch_dtype=torch.float32
    )
    if reference_tokens and not transformer.config.reference_tokens:
        known = transformer
        transformer = SpacetimeTransformer.from_config(known.config, reference_tokens=True)
        transformer.load_state_dict(known.state_dict(), strict=False)
    text_encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    if vocabulary_size > text_encoder.config.vocab_size:
        text_encoder.resize_token_embeddings(vocabulary_size)
    return TextToVideo(transformer, text_encoder)


def check_start(config: TrainConfig) -> None:
    """Refuse to start from folders that are not there or that do not fit the configuration.

    Raises:
        ConfigError: naming the key, its value and what is allowed.
    """
    if not (config.data.autoencoder / "config.json").is_file():
        raise ConfigError(
            f"data.autoencoder: {config.data.autoencoder} holds no autoencoder; allowed is a "
            "folder that training/train_autoencoder.py wrote, or model/pretrained/vae"
        )
    if config.tracker == "wandb" and importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "tracker: wandb is not installed (pip install '.[wandb]'); allowed without it is "
            "'tensorboard'"
        )
    if not config.init_from:
        return
    try:
        index = read_index(config.init_from, str(config.init_from))
        length = Manifest.of(index).max_sequence_length
    except CheckpointError as error:
        raise ConfigError(f"init_from: {error}") from None
    if config.text.cached:
        return
    if "VideoAutoencoder" not in (index.get("vae") or ()):
        raise ConfigError(
            f"init_from: {config.init_from} has not this project's autoencoder and text encoder; "
            "with text.cached=true it is trained on clips that training.data.prepare made with it "
            "(docs/finetune.md)"
        )
    if length != config.network.max_sequence_length:
        raise ConfigError(
            f"network.max_sequence_length: {config.network.max_sequence_length}, but "
            f"{config.init_from} was trained with {length}; pads attend, so only that is allowed"
        )
    folders = (config.init_from / "vae", config.data.autoencoder)
    one, other = (VideoAutoencoder.from_pretrained(folder) for folder in folders)
    same_scale = one.config.latents_std == other.config.latents_std
    if not (same_scale and torch.equal(one.encoder.weight, other.encoder.weight)):
        raise ConfigError(
            f"data.autoencoder: {folders[1]} encodes otherwise than {folders[0]}, whose latents "
            "the network was trained on; give that folder, or one with the same encoder"
        )


def build_world_tokenizer(
    config: TrainConfig, others: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer of everything the world's captions say, and some others.

    A start's words keep their ids; what the world says besides comes after them.
    """
    words = captions.words(config.data.known)
    said = {word for text in others for word in re.findall(r"\w+", text.lower())}
    words += sorted(said - set(words) - captions.SYNONYMS.keys())
    if config.init_from:
        start = PreTrainedTokenizerFast.from_pretrained(config.init_from / "tokenizer")
        known = vocabulary(start)
        words = known + [word for word in words if word not in known]
    return build_tokenizer(words, captions.SYNONYMS)


def known_ids(config: TrainConfig) -> int:
    """How many ids the start's text encoder has embeddings of; 0 without a start."""
    if config.init_from is None:
        return 0
    return int(UMT5Config.from_pretrained(config.init_from / "text_encoder").vocab_size)


def tokenize(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], config: TrainConfig
) -> tuple[Tensor, Tensor]:
    """Return ids and masks `(1 + N, L)` of N texts; row 0 is the empty one, for text dropout."""
    encoded = tokenizer(
        ["", *texts],
        padding="max_length",
        max_length=config.network.max_sequence_length,
        truncation=True,
        return_tensors="pt",
    )
    return encoded.input_ids, encoded.attention_mask


def export(
    folder: Path,
    network: TextToVideo,
    tokenizer: PreTrainedTokenizerFast,
    config: TrainConfig,
    told_of_data: Mapping[str, object],
    examples: Sequence[str],
) -> None:
    """Write a standard diffusers folder, whole or not at all; all processes call it, one writes.

    What is told of prepared data, and examples of it, stand in place of the world's.

    The transformer is stored in bf16, in files of at most 15 MB. The small text encoder stays fp32,
    because transformers opens weights in the dtype they are stored in, and diffusers in fp32.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(network, options=options)
    if dist.is_initialized() and dist.get_rank():
        return
    told = {name: v for name, v in network.transformer.config.items() if not name.startswith("_")}
    whole = TextToVideo(
        SpacetimeTransformer(**told),  # without the folder that it came from
        UMT5EncoderModel(network.text_encoder.config),
    )
    whole.load_state_dict(weights)
    known = config.data.known
    with whole_folder(folder) as partial:
        shutil.copytree(config.data.autoencoder, partial / "vae")
        for parameter in whole.transformer.parameters():
            parameter.data = parameter.data.bfloat16()
        whole.transformer.save_pretrained(partial / "transformer", max_shard_size="15MB")
        whole.text_encoder.save_pretrained(partial / "text_encoder")
        tokenizer.save_pretrained(partial / "tokenizer")
        scheduler = FlowMatchEulerDiscreteScheduler(shift=config.sampling.shift)
        scheduler.save_pretrained(partial / "scheduler")
        _write_json(partial / "model_index.json", _index(config) | dict(told_of_data))
        told = {
            "words": sorted([*captions.words(known), *captions.SYNONYMS]),
            "grammar": captions.grammar(known),
            "examples": list(examples) or captions.examples(known),
        }
        _write_json(partial / "examples.json", told)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _index(config: TrainConfig) -> dict[str, object]:
    return {
        "_class_name": "WanPipeline",
        "name": config.name,
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["model.autoencoder", "VideoAutoencoder"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "max_sequence_length": config.network.max_sequence_length,
        "limits": {
            "sizes": list(dict.fromkeys(config.data.sizes)),
            "num_frames": list(dict.fromkeys(config.data.frames)),
            "fps": world.FPS,
        },
        "defaults": {
            "num_inference_steps": config.sampling.num_inference_steps,
            "guidance_scale": config.sampling.guidance_scale,
        },
    }
