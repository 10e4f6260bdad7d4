"""What is trained: the transformer and its text encoder, built, and saved as a checkpoint."""

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

import world
from model.autoencoder import VideoAutoencoder
from model.flow import TIMESTEP_SCALE
from model.text import build_text_encoder, build_tokenizer
from model.transformer import SpacetimeTransformer
from training.config import ConfigError, TrainConfig
from training.files import whole_folder
from world import captions


class TextToVideo(nn.Module):
    """Token ids and noisy latents to a velocity; one module, so that one wrapper distributes it."""

    def __init__(self, transformer: SpacetimeTransformer, text_encoder: UMT5EncoderModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.text_encoder = text_encoder

    def forward(self, noisy: Tensor, t: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Predict the velocity.

        Args:
            noisy: latents `(B, C, T, h, w)`.
            t: `(B,)` in [0, 1].
            input_ids: `(B, L)`.
            mask: `(B, L)`, 1 where there is text; past it the text is zeros, and these attend.

        Returns:
            `(B, C, T, h, w)`, fp32.
        """
        text = self.text_encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        text = text * mask.unsqueeze(-1)
        prediction = self.transformer(noisy, t * TIMESTEP_SCALE, text, return_dict=False)[0]
        velocity: Tensor = prediction.float()
        return velocity


def build(config: TrainConfig, tokenizer: PreTrainedTokenizerFast, channels: int) -> TextToVideo:
    """Build the network from scratch, or from the folder named by `init_from`.

    The output head and the modulation start at zero, so that the first predictions are zero and
    every block is ungated (Peebles and Xie, 2023, §3.2, adaLN-zero).
    """
    if config.init_from:
        return _open(config.init_from)
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
    )
    for layer in (transformer.proj_out, transformer.condition_embedder.time_proj):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return TextToVideo(transformer, text_encoder)


def _open(folder: Path) -> TextToVideo:
    return TextToVideo(
        SpacetimeTransformer.from_pretrained(folder / "transformer", torch_dtype=torch.float32),
        UMT5EncoderModel.from_pretrained(folder / "text_encoder", dtype=torch.float32),
    )


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
    if not config.init_from:
        return
    if not (config.init_from / "model_index.json").is_file():
        raise ConfigError(f"init_from: {config.init_from} holds no model_index.json")
    length = json.loads((config.init_from / "model_index.json").read_text())["max_sequence_length"]
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


def build_world_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer of everything the world's captions say."""
    if config.init_from:
        return PreTrainedTokenizerFast.from_pretrained(config.init_from / "tokenizer")
    return build_tokenizer(captions.words(), captions.SYNONYMS)


def export(
    folder: Path, network: TextToVideo, tokenizer: PreTrainedTokenizerFast, config: TrainConfig
) -> None:
    """Write a standard diffusers folder, whole or not at all.

    The transformer is stored in bf16, in files of at most 15 MB. The small text encoder stays fp32,
    because transformers opens weights in the dtype they are stored in, and diffusers in fp32.
    """
    with whole_folder(folder) as partial:
        shutil.copytree(config.data.autoencoder, partial / "vae")
        transformer = copy.deepcopy(network.transformer)
        for parameter in transformer.parameters():
            parameter.data = parameter.data.bfloat16()
        transformer.save_pretrained(partial / "transformer", max_shard_size="15MB")
        network.text_encoder.save_pretrained(partial / "text_encoder")
        tokenizer.save_pretrained(partial / "tokenizer")
        scheduler = FlowMatchEulerDiscreteScheduler(shift=config.sampling.shift)
        scheduler.save_pretrained(partial / "scheduler")
        _write_json(partial / "model_index.json", _index(config))
        told = {
            "words": sorted([*captions.words(), *captions.SYNONYMS]),
            "grammar": captions.grammar(),
            "examples": captions.examples(),
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
        "capabilities": ["text"],
        "max_sequence_length": config.network.max_sequence_length,
        "limits": {"sizes": ["64x64"], "num_frames": [world.NUM_FRAMES], "fps": world.FPS},
        "defaults": {
            "num_inference_steps": config.sampling.num_inference_steps,
            "guidance_scale": config.sampling.guidance_scale,
        },
    }
