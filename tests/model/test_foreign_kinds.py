"""Which pipelines of diffusers are served, told from their code: every one that makes videos from
text alone, whatever it calls their length and however it shows its steps, and no other.
"""

import inspect
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Gemma2Config,
    Gemma2Model,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    T5Config,
    T5EncoderModel,
)

from model.foreign import ForeignPipeline
from model.foreign_description import describe_foreign
from model.foreign_kinds import unfit
from model.pipeline import GenerationRequest, Progress, Video
from model.placement import Placement
from model.text import build_tokenizer
from tests.model.test_foreign import WORDS

CPU = Placement.of("cpu")


def _t5() -> Any:
    return T5EncoderModel(
        T5Config(vocab_size=11, d_model=16, d_kv=8, num_heads=2, num_layers=1, d_ff=24)
    )


def _latte() -> Any:
    return diffusers.LattePipeline(
        tokenizer=build_tokenizer(WORDS),
        text_encoder=_t5(),
        transformer=diffusers.LatteTransformer3DModel(
            sample_size=8, num_layers=1, patch_size=2, attention_head_dim=8, num_attention_heads=2,
            caption_channels=16, in_channels=4, cross_attention_dim=16, out_channels=8,
            attention_bias=True, activation_fn="gelu-approximate", num_embeds_ada_norm=1000,
            norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
            video_length=5,
        ),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=2,
        ),
        scheduler=diffusers.DDIMScheduler(),
    )  # fmt: skip


def _sana() -> Any:
    return diffusers.SanaVideoPipeline(
        tokenizer=build_tokenizer(WORDS),
        text_encoder=Gemma2Model(
            Gemma2Config(
                vocab_size=11, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=2, num_key_value_heads=2, head_dim=8,
            )
        ),
        transformer=diffusers.SanaVideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=12,
            num_layers=1, num_cross_attention_heads=2, cross_attention_head_dim=12,
            cross_attention_dim=24, caption_channels=8, sample_size=30, rope_max_seq_len=32,
            qk_norm="rms_norm_across_heads",
        ),
        vae=diffusers.AutoencoderKLWan(
            base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
            latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def _hunyuan15() -> Any:
    tokenizer = build_tokenizer(WORDS)
    # The pipeline drops the first 108 tokens, which are the template's.
    tokenizer.chat_template = "a " * 108 + "{{ messages[-1]['content'] }}"
    return diffusers.HunyuanVideo15Pipeline(
        tokenizer=tokenizer,
        tokenizer_2=build_tokenizer(WORDS),
        text_encoder=Qwen2_5_VLTextModel(
            Qwen2_5_VLTextConfig(
                vocab_size=11, hidden_size=16, intermediate_size=16, num_hidden_layers=3,
                num_attention_heads=2, num_key_value_heads=2,
                rope_parameters={
                    "rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4,
                },
            )
        ),
        text_encoder_2=_t5(),
        transformer=diffusers.HunyuanVideo15Transformer3DModel(
            in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16,
            num_layers=1, num_refiner_layers=1, text_embed_dim=16, text_embed_2_dim=16,
            image_embed_dim=8, rope_axes_dim=(4, 6, 6), target_size=32, task_type="t2v",
        ),
        vae=diffusers.AutoencoderKLHunyuanVideo15(
            latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        guider=diffusers.ClassifierFreeGuidance(guidance_scale=4.0),
    )  # fmt: skip


def _text_to_video_sd() -> Any:
    tokenizer = build_tokenizer(WORDS)
    tokenizer.model_max_length = 16
    return diffusers.TextToVideoSDPipeline(
        tokenizer=tokenizer,
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=11, hidden_size=8, intermediate_size=16, num_hidden_layers=1,
                num_attention_heads=2, projection_dim=8, pad_token_id=0, bos_token_id=2,
                eos_token_id=1,
            )
        ),
        unet=diffusers.UNet3DConditionModel(
            sample_size=4, block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=8,
            attention_head_dim=4, norm_num_groups=2, up_block_types=("UpBlock3D", "UpBlock3D"),
            down_block_types=("DownBlock3D", "DownBlock3D"),
        ),
        vae=diffusers.AutoencoderKL(
            block_out_channels=(8,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=2,
        ),
        scheduler=diffusers.DDIMScheduler(),
    )  # fmt: skip


FAMILIES: dict[str, Callable[[], Any]] = {
    "latte": _latte,
    "sana": _sana,
    "hunyuan15": _hunyuan15,
    "text_to_video_sd": _text_to_video_sd,
}
LENGTHS = {"latte": "video_length", "sana": "frames"}
TOLD: dict[str, Any] = {
    "name": "small",
    "limits": {"sizes": ["64x32"], "num_frames": [5], "fps": 8},
    "defaults": {"num_inference_steps": 3},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give `folder(family)`, saved once."""
    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            torch.manual_seed(0)
            made[family] = tmp_path_factory.mktemp(family)
            FAMILIES[family]().save_pretrained(made[family])
        return made[family]

    return folder


def made(pipeline: ForeignPipeline, **changes: Any) -> tuple[list[Progress], np.ndarray]:
    asked = {"prompt": "a red cat", "seed": 5, "num_inference_steps": 3, "guidance_scale": 3.0}
    *progress, video = pipeline.generate(GenerationRequest(**(asked | changes)))
    assert isinstance(video, Video)
    return [item for item in progress if isinstance(item, Progress)], video.frames


@pytest.mark.parametrize("negative_prompt", ["", "a ball"])
@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_those_of_diffusers_and_every_step_is_told(
    folder: Callable[[str], Path], family: str, negative_prompt: str
) -> None:
    """Bit by bit, whatever the length is called and whoever guides."""
    progress, frames = made(
        ForeignPipeline.open(folder(family), CPU, TOLD), negative_prompt=negative_prompt
    )
    theirs = diffusers.DiffusionPipeline.from_pretrained(folder(family))
    theirs.set_progress_bar_config(disable=True)
    arguments = {"width": 64, "height": 32, LENGTHS.get(family, "num_frames"): 5}
    if family == "hunyuan15":
        theirs.guider = theirs.guider.new(guidance_scale=3.0)
    else:
        arguments |= {"guidance_scale": 3.0}
    if family == "sana":
        arguments |= {"use_resolution_binning": False}
    if negative_prompt:
        arguments |= {"negative_prompt": negative_prompt}
    expected = theirs(
        "a red cat", generator=torch.Generator().manual_seed(5), num_inference_steps=3,
        output_type="np", **arguments,
    ).frames[0]  # fmt: skip
    assert frames.shape == (5, 32, 64, 3)
    assert np.array_equal(frames, (expected * 255).round().astype(np.uint8))
    assert [(p.stage, p.step, p.steps) for p in progress] == [
        *[("text", 0, 1), ("text", 1, 1)],
        *[("denoise", step, 3) for step in range(4)],
        *[("decode", 0, 1), ("decode", 1, 1)],
    ]


def test_the_part_that_guides_has_the_default_and_takes_what_is_asked(
    folder: Callable[[str], Path],
) -> None:
    description, _ = describe_foreign(folder("hunyuan15"), CPU, TOLD)
    assert description.guidance_scale == 4.0
    pipeline = ForeignPipeline.open(folder("hunyuan15"), CPU, TOLD)
    default, strong, again = (made(pipeline, guidance_scale=scale)[1] for scale in (None, 9.0, 4.0))
    assert np.array_equal(default, again) and not np.array_equal(default, strong)


def test_without_a_callback_too_closing_stops_within_a_step(folder: Callable[[str], Path]) -> None:
    pipeline = ForeignPipeline.open(folder("text_to_video_sd"), CPU, TOLD)
    calls: list[int] = []
    pipeline.pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    running = pipeline.generate(GenerationRequest("a red cat", num_inference_steps=9))
    while (item := next(running)) and (item.stage, item.step) != ("denoise", 2):  # type: ignore[union-attr]
        pass
    running.close()
    assert len(calls) == 2
    assert made(pipeline)[1].shape == (5, 32, 64, 3)


def test_memory_is_told_by_a_run_under_the_pipeline_s_own_names(
    folder: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kinetograph.memory")
    describe_foreign(folder("sana"), CPU, TOLD)
    assert caplog.messages == []


def test_a_square_default_is_known(folder: Callable[[str], Path]) -> None:
    description, _ = describe_foreign(folder("text_to_video_sd"), CPU)
    assert (description.sizes, description.num_frames) == (("32x32",), (16,))


KINDS = {
    "AllegroPipeline": None,
    "AnimateDiffPipeline": None,
    "AnyFlowPipeline": None,
    "CogVideoXPipeline": None,
    "CosmosTextToWorldPipeline": None,
    "EasyAnimatePipeline": None,
    "HeliosPipeline": None,
    "HunyuanVideo15Pipeline": None,
    "HunyuanVideoPipeline": None,
    "Kandinsky5T2VPipeline": None,
    "LTX2Pipeline": None,
    "LTXConditionPipeline": None,
    "LTXPipeline": None,
    "LattePipeline": None,
    "MochiPipeline": None,
    "SanaVideoPipeline": None,
    "SkyReelsV2Pipeline": None,
    "TextToVideoSDPipeline": None,
    "AnimateDiffControlNetPipeline": "is steered by controlnet_conditioning_scale",
    "AnimateDiffSparseControlNetPipeline": "is steered by controlnet_conditioning_scale",
    "EasyAnimateControlPipeline": "is steered by control_video",
    "CogVideoXFunControlPipeline": "takes no num_frames",
    "CogVideoXImageToVideoPipeline": "starts from image",
    "CosmosVideoToWorldPipeline": "starts from video",
    "I2VGenXLPipeline": "starts from image",
    "LTXImageToVideoPipeline": "starts from image",
    "LucyEditPipeline": "starts from video",
    "FluxPipeline": "takes no num_frames",
    "StableVideoDiffusionPipeline": "takes no prompt",
    "HeliosPyramidPipeline": "takes no num_inference_steps",
    "TextToVideoZeroPipeline": "shows no bar of its steps",
}
"""Why each is refused; None: it is served."""
ELSE = (
    "ImageToVideo|Image2Video|(?<!T)I2V|VideoToVideo|ToWorld|Control|Edit|Upsample|Transfer|Upscale"
)
"""Of the names of those that start from more than a text; TI2V may do without the image."""


def kinds() -> dict[str, type[DiffusionPipeline]]:
    """Every pipeline that diffusers has, and can be imported here."""
    found: dict[str, type[DiffusionPipeline]] = {}
    for name in dir(diffusers):
        kind = getattr(diffusers, name) if name.endswith("Pipeline") else None
        if isinstance(kind, type) and issubclass(kind, DiffusionPipeline):
            found[name] = kind
    return found


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # at import, of one of them
def test_every_kind_is_told_by_what_its_call_takes_and_does() -> None:
    """None of those that are named after what they start from is served, and whatever is served
    can be called with a text and a length, and nothing else that it needs.
    """
    every = kinds()
    assert len(every) > 250
    refused = {name: unfit(kind) for name, kind in every.items()}
    for name, expected in KINDS.items():
        assert (refused[name] or "served").startswith(expected or "served"), name
    fit = {name for name, reason in refused.items() if reason is None}
    text = {"CosmosTextToWorldPipeline"}
    assert {name for name in fit if re.search(ELSE, name)} == text
    for name in fit:
        call = inspect.signature(every[name].__call__)
        length = next(n for n in ("num_frames", "video_length", "frames") if n in call.parameters)
        told = {"prompt": "a", length: 5, "height": 8, "width": 8, "num_inference_steps": 2}
        call.bind(None, **told, generator=None, output_type="np")
