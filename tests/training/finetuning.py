"""A tiny checkpoint of Wan's layout, and configurations that fine-tune it."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    UMT5Config,
    UMT5EncoderModel,
)

from model.text import build_tokenizer
from training.config import TrainConfig

WORDS = ["a", "texture", "drifts", "left", "right", "number", *map(str, range(10))]


def write_checkpoint(folder: Path, vae: Any = None, starts: str = "text", **shape: int) -> Path:
    """Random weights, saved by diffusers; the autoencoder is Wan's own class, made small.

    It starts from text alone; from an "image", read as channels; or from one that an image encoder
    sees, too: "seen image".
    """
    torch.manual_seed(0)
    vae = vae or AutoencoderKLWan(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    sizes = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 32}
    channels = {"in_channels": vae.config.z_dim, "out_channels": vae.config.z_dim}
    kind, seeing = WanPipeline, {}
    if starts != "text":
        kind = WanImageToVideoPipeline
        channels["in_channels"] = 2 * vae.config.z_dim + 4
        seeing = {"image_encoder": None, "image_processor": None}
    if starts == "seen image":
        sizes |= {"image_dim": 20, "added_kv_proj_dim": 24}
        seeing = image_encoder()
    transformer = WanTransformer3DModel(text_dim=24, freq_dim=32, **{**sizes, **channels, **shape})
    encoder = UMT5EncoderModel(
        UMT5Config(
            vocab_size=3 + len(WORDS), d_model=24, d_kv=8, num_heads=3, num_layers=2, d_ff=40
        )
    )
    pipeline = kind(
        tokenizer=build_tokenizer(WORDS),
        text_encoder=encoder,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer,
        **seeing,
    )
    pipeline.save_pretrained(folder)
    return folder


def image_encoder() -> dict[str, Any]:
    """A small one of CLIP's, with what prepares its images."""
    size = {"height": 32, "width": 32}
    config = CLIPVisionConfig(
        hidden_size=20, intermediate_size=28, num_hidden_layers=3, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    return {
        "image_encoder": CLIPVisionModel(config),
        "image_processor": CLIPImageProcessorPil(size=size, crop_size=size),
    }


def configured(run: Path, base: Path, prepared: Path, /, **changes: Any) -> TrainConfig:
    """A short run in fp32."""
    told: dict[str, Any] = {
        "run": run,
        "name": "mine",
        "steps": 3,
        "precision": "no",
        "init_from": base,
        "save_every": 1000,
        "sample_every": 1000,
        "data": {"sets": {str(prepared): 1.0}, "autoencoder": base / "vae"},
        "text": {"cached": True},
        "batch": {"tokens": 256, "window": 2, "image_share": 0.2, "text_dropout": 0.1},
        "flow": {"uniform_share": 0.1},
        "optim": {"muon": False, "lr": 0.02, "warmup_steps": 1, "decay_share": 0, "ema_decay": 0},
        "sampling": {"num_inference_steps": 2, "guidance_scale": 1.0},
    }
    for key, value in changes.items():
        told[key] = {**told[key], **value} if isinstance(told.get(key), dict) else value
    return TrainConfig.model_validate(told)
