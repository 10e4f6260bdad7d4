"""What is trained: the transformer and its text encoder, built, and saved as a checkpoint."""

import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, UMT5EncoderModel

from model.flow import TIMESTEP_SCALE
from model.text import build_text_encoder, build_tokenizer
from model.transformer import SpacetimeTransformer
from training.config import TrainConfig
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
        return TextToVideo(
            SpacetimeTransformer.from_pretrained(
                config.init_from / "transformer", torch_dtype=torch.float32
            ),
            UMT5EncoderModel.from_pretrained(
                config.init_from / "text_encoder", torch_dtype=torch.float32
            ),
        )
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


def build_world_tokenizer(config: TrainConfig) -> PreTrainedTokenizerFast:
    """Return the word-level tokenizer of everything the world's captions say."""
    if config.init_from:
        return PreTrainedTokenizerFast.from_pretrained(config.init_from / "tokenizer")
    return build_tokenizer(captions.words(), captions.SYNONYMS)


def export(
    folder: Path, network: TextToVideo, tokenizer: PreTrainedTokenizerFast, config: TrainConfig
) -> None:
    """Write a standard diffusers folder, whole or not at all.

    Weights are stored in bf16, in files of at most 15 MB.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(config.data.autoencoder, partial / "vae")
    for name in ("transformer", "text_encoder"):
        half = copy.deepcopy(getattr(network, name)).to(torch.bfloat16)
        half.save_pretrained(partial / name, max_shard_size="15MB")
    tokenizer.save_pretrained(partial / "tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=config.sampling.shift).save_pretrained(
        partial / "scheduler"
    )
    (partial / "model_index.json").write_text(json.dumps(_index(config), indent=2) + "\n")
    told = {
        "words": sorted([*captions.words(), *captions.SYNONYMS]),
        "grammar": captions.grammar(),
        "examples": captions.examples(),
    }
    (partial / "examples.json").write_text(json.dumps(told, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


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
        "limits": {"sizes": ["64x64"], "num_frames": [17], "fps": 8},
        "defaults": {
            "num_inference_steps": config.sampling.num_inference_steps,
            "guidance_scale": config.sampling.guidance_scale,
        },
    }
