"""Random-weight checkpoints of every form that Wan has, tiny, saved by diffusers itself."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
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

from model.autoencoder import VideoAutoencoder
from model.text import build_tokenizer
from model.transformer import SpacetimeTransformer

WORDS = ["a", "cat", "walks", "left", "right", "red", "ball", "blurry", ",", "."]

Build = Callable[..., Path]


def _randomise(network: torch.nn.Module, seed: int) -> Any:
    """Fill every weight, those of norms included, so that nothing hides behind a 0 or a 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in network.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        fan_in = max(1, weight[0].numel())
        is_norm = "norm" in name and weight.ndim == 1 and name.endswith(("weight", "gamma"))
        scale = 0.2 if weight.ndim == 1 else 0.7 * fan_in**-0.5
        weight.data.copy_(noise * scale + (1.0 if is_norm else 0.0))
    return network.eval()


def _transformer(seed: int, **config: Any) -> Any:
    sizes = dict(num_attention_heads=3, attention_head_dim=12, text_dim=24, freq_dim=32)
    sizes |= dict(ffn_dim=56, num_layers=2, in_channels=16, out_channels=16)
    return _randomise(WanTransformer3DModel(**(sizes | config)), seed)


def _text_encoder() -> Any:
    config = UMT5Config(
        vocab_size=3 + len(WORDS), d_model=24, d_kv=8, num_heads=3, num_layers=2, d_ff=40
    )
    return _randomise(UMT5EncoderModel(config), 1)


def _vae(form: str) -> Any:
    if form == "embedded":
        mean, std = [0.2 * math.sin(i) for i in range(16)], [0.5 + 0.1 * i for i in range(16)]
        own = VideoAutoencoder(hidden_channels=8, num_blocks=1, latents_mean=mean, latents_std=std)
        return _randomise(own, 2)
    sizes: dict[str, Any] = dict(base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1)
    if form == "ti2v":  # Wan2.2's own: 48 channels at a sixteenth of the side
        sizes |= dict(decoder_base_dim=4, z_dim=48, is_residual=True, patch_size=2)
        sizes |= dict(in_channels=12, out_channels=12, scale_factor_spatial=16)
        sizes["latents_mean"] = [0.3 * math.sin(i) for i in range(48)]
        sizes["latents_std"] = [0.6 + 0.3 * math.cos(i) for i in range(48)]
    return _randomise(AutoencoderKLWan(**sizes), 2)


def _image_encoder() -> Any:
    config = CLIPVisionConfig(
        hidden_size=20,
        intermediate_size=28,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    return _randomise(CLIPVisionModel(config), 5)


def _scheduler(name: str) -> Any:
    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=3.0)
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )


def _write_as_conditioned(folder: Path) -> None:
    """Let it know references, and leave what it can do to be told from that."""
    config = WanTransformer3DModel.load_config(folder / "transformer")
    network = SpacetimeTransformer.from_config(config, reference_tokens=True)
    _randomise(network, 3).save_pretrained(folder / "transformer")
    index = json.loads((folder / "model_index.json").read_text())
    del index["capabilities"]
    (folder / "model_index.json").write_text(json.dumps(index))


def _write_as_ours(folder: Path) -> None:
    """Say in the folder what our own training says: the autoencoder's module, limits and words."""
    index = json.loads((folder / "model_index.json").read_text())
    index |= {
        "vae": ["model.autoencoder", "VideoAutoencoder"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "capabilities": ["text"],
        "max_sequence_length": 12,
        "limits": {"sizes": ["64x48", "48x64"], "num_frames": [17, 9], "fps": 8},
        "defaults": {"num_inference_steps": 3, "guidance_scale": 2.5},
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    told = {
        "words": WORDS,
        "grammar": ["a {animal} walks {side}"],
        "examples": ["a cat walks left"],
    }
    (folder / "examples.json").write_text(json.dumps(told))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Give `build(form, scheduler)`, which saves a checkpoint once a session: its folder.

    Forms: "t2v"; "experts" (Wan2.2 T2V-A14B); "ti2v" (Wan2.2 TI2V-5B); "i2v" (Wan2.2 I2V-A14B);
    "i2v-clip" (Wan2.1 I2V); "flf-clip" (Wan2.1 first and last frame); "embedded" (ours: own
    autoencoder, words and limits); "conditioned" (the same, trained for every condition).
    """
    built: dict[tuple[str, str], Path] = {}

    def build(form: str, scheduler: str = "unipc") -> Path:
        if (form, scheduler) in built:
            return built[form, scheduler]
        ours = form in ("embedded", "conditioned")
        seeing, through_channels = form.endswith("-clip"), form.startswith(("i2v", "flf"))
        channels = (48, 48) if form == "ti2v" else (36, 16) if through_channels else (16, 16)
        sizes: dict[str, Any] = dict(zip(("in_channels", "out_channels"), channels, strict=True))
        parts: dict[str, Any] = {
            "tokenizer": build_tokenizer(WORDS),
            "text_encoder": _text_encoder(),
            "vae": _vae("embedded" if ours else form),
            "scheduler": _scheduler(scheduler),
        }
        if seeing:
            sizes |= {"image_dim": 20, "added_kv_proj_dim": 36}
            size = {"height": 32, "width": 32}
            parts["image_processor"] = CLIPImageProcessorPil(size=size, crop_size=size)
            parts["image_encoder"] = _image_encoder()
        if form == "flf-clip":
            sizes["pos_embed_seq_len"] = 34
        parts["transformer"] = _transformer(3, **sizes)
        if form in ("experts", "i2v"):
            parts |= {"transformer_2": _transformer(4, **sizes), "boundary_ratio": 0.875}
        if form == "ti2v":
            parts["expand_timesteps"] = True
        kind = WanImageToVideoPipeline if through_channels else WanPipeline
        folder = tmp_path_factory.mktemp(f"{form}-{scheduler}")
        kind(**parts).save_pretrained(folder)
        if ours:
            _write_as_ours(folder)
        if form == "conditioned":
            _write_as_conditioned(folder)
        built[form, scheduler] = folder
        return folder

    return build
