"""Pipelines of diffusers run as they are: same frames, progress and cancel at every step.

Three families with random weights, small: LTX-Video, CogVideoX and HunyuanVideo.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    LlamaConfig,
    LlamaModel,
    T5Config,
    T5EncoderModel,
)

from model.foreign import ForeignPipeline
from model.foreign_description import describe_foreign
from model.pipeline import CheckpointError, GenerationRequest, Progress, RequestError, Video
from model.placement import Placement
from model.text import build_tokenizer

WORDS = ["a", "cat", "walks", "left", "red", "ball", ",", "."]
CPU = Placement.of("cpu")


def _t5() -> Any:
    return T5EncoderModel(
        T5Config(vocab_size=11, d_model=16, d_kv=8, num_heads=2, num_layers=1, d_ff=24)
    )


def _ltx() -> Any:
    return diffusers.LTXPipeline(
        tokenizer=build_tokenizer(WORDS),
        text_encoder=_t5(),
        transformer=diffusers.LTXVideoTransformer3DModel(
            in_channels=8, out_channels=8, num_attention_heads=2, attention_head_dim=8,
            cross_attention_dim=16, num_layers=1, caption_channels=16,
        ),
        vae=diffusers.AutoencoderKLLTXVideo(
            latent_channels=8, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8,) * 4,
            layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4,
            upsample_factor=(1,) * 4, patch_size=1, patch_size_t=1, encoder_causal=True,
            decoder_causal=False,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip


def _cog() -> Any:
    return diffusers.CogVideoXPipeline(
        tokenizer=build_tokenizer(WORDS),
        text_encoder=_t5(),
        transformer=diffusers.CogVideoXTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4,
            time_embed_dim=8, text_embed_dim=16, num_layers=1, sample_width=4, sample_height=4,
            sample_frames=9, max_text_seq_length=16, use_rotary_positional_embeddings=True,
        ),
        vae=diffusers.AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1,
            norm_num_groups=2, temporal_compression_ratio=4,
        ),
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )  # fmt: skip


def _hunyuan() -> Any:
    return diffusers.HunyuanVideoPipeline(
        tokenizer=build_tokenizer(WORDS),
        tokenizer_2=build_tokenizer(WORDS),
        text_encoder=LlamaModel(
            LlamaConfig(
                vocab_size=11, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
                num_attention_heads=2, pad_token_id=0, bos_token_id=1, eos_token_id=1,
            )
        ),
        text_encoder_2=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=11, hidden_size=8, intermediate_size=16, num_hidden_layers=2,
                num_attention_heads=2, projection_dim=8, pad_token_id=0, bos_token_id=2,
                eos_token_id=1,
            )
        ),
        transformer=diffusers.HunyuanVideoTransformer3DModel(
            in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=10,
            num_layers=1, num_single_layers=1, num_refiner_layers=1, patch_size=2, patch_size_t=1,
            guidance_embeds=True, text_embed_dim=16, pooled_projection_dim=8,
            rope_axes_dim=(2, 4, 4),
        ),
        vae=diffusers.AutoencoderKLHunyuanVideo(
            latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1,
            norm_num_groups=2, mid_block_add_attention=True,
            down_block_types=("HunyuanVideoDownBlock3D",) * 4,
            up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        ),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    )  # fmt: skip


FAMILIES: dict[str, Callable[[], Any]] = {"ltx": _ltx, "cog": _cog, "hunyuan": _hunyuan}
SIZE: dict[str, dict[str, Any]] = {
    "ltx": {"height": 32, "width": 64, "num_frames": 9},
    "cog": {"height": 16, "width": 32, "num_frames": 5},
    "hunyuan": {"height": 16, "width": 32, "num_frames": 5},
}
TOLD = {
    "name": "small",
    "limits": {"sizes": ["64x32", "32x16"], "num_frames": [9, 5], "fps": 8},
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


def request(family: str, **changes: Any) -> GenerationRequest:
    return GenerationRequest(
        **{"prompt": "a red cat", "seed": 5, "num_inference_steps": 3, **SIZE[family], **changes}
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_are_those_of_diffusers(folder: Callable[[str], Path], family: str) -> None:
    """Bit by bit; every stage is reported, in order, with all its steps."""
    ours = ForeignPipeline.open(folder(family), CPU, TOLD)
    *progress, video = ours.generate(request(family))
    theirs = diffusers.DiffusionPipeline.from_pretrained(folder(family))
    theirs.set_progress_bar_config(disable=True)
    rate = {"frame_rate": 8} if family == "ltx" else {}
    expected = theirs(
        "a red cat", generator=torch.Generator().manual_seed(5), num_inference_steps=3,
        output_type="np", **SIZE[family], **rate,
    ).frames[0]  # fmt: skip
    assert isinstance(video, Video) and video.fps == 8
    frames = SIZE[family]["num_frames"]
    assert np.array_equal(video.frames, (expected[:frames] * 255).round().astype(np.uint8))
    assert video.frames.shape == (frames, *expected.shape[1:])
    steps = [(p.stage, p.step, p.steps) for p in progress if isinstance(p, Progress)]
    assert steps == [
        *[("text", 0, 1), ("text", 1, 1)],
        *[("denoise", step, 3) for step in range(4)],
        *[("decode", 0, 1), ("decode", 1, 1)],
    ]
    assert list(video.timings) == ["text", "denoise", "decode"]


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_described_without_its_weights(
    folder: Callable[[str], Path], family: str, tmp_path: Path
) -> None:
    """The same with the weights gone; memory is that of the weights and more, growing with size."""
    bare = tmp_path / "bare"
    for file in folder(family).rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            (bare / file.relative_to(folder(family))).parent.mkdir(parents=True, exist_ok=True)
            (bare / file.relative_to(folder(family))).write_bytes(file.read_bytes())
    description, networks = describe_foreign(bare, CPU, TOLD)
    opened = ForeignPipeline.open(folder(family), CPU, TOLD)
    weights = sum(
        p.numel() * 4
        for part in opened.pipeline.components.values()
        if isinstance(part, torch.nn.Module)
        for p in part.parameters()
    )
    memory = description.memory
    assert memory and weights < memory.peak(32, 16, 5) < memory.peak(64, 32, 9)
    assert description.capabilities == ("text",) and description.sizes == ("64x32", "32x16")
    assert (description.name, description.fps, description.parameters) == (
        *("small", 8, sum(p.numel() for p in opened.pipeline.transformer.parameters())),
    )
    assert networks["transformer"].device.type == "meta"


def test_without_overrides_a_family_s_own_defaults_hold(folder: Callable[[str], Path]) -> None:
    ltx, _ = describe_foreign(folder("ltx"), CPU)
    assert (ltx.sizes, ltx.num_frames[0], ltx.fps, ltx.guidance_scale) == (("704x512",), 161, 25, 3)
    cog, _ = describe_foreign(folder("cog"), CPU)
    assert (cog.sizes, cog.num_frames, cog.size_multiple) == (("32x32",), (9, 5, 1), 16)
    hunyuan, _ = describe_foreign(folder("hunyuan"), CPU)
    assert (hunyuan.sizes, hunyuan.num_frames[0]) == (("1280x720",), 129)


def test_closing_stops_within_a_step_and_the_next_request_runs(
    folder: Callable[[str], Path],
) -> None:
    """After the k-th step is closed, the transformer has run k steps, and no thread is left."""
    pipeline = ForeignPipeline.open(folder("ltx"), CPU, TOLD)
    calls: list[int] = []
    pipeline.pipeline.transformer.register_forward_pre_hook(lambda *_: calls.append(1))
    whole = [item for item in pipeline.generate(request("ltx"))][-1]
    threads = threading.active_count()
    for stop in range(1, 8):
        calls.clear()
        running = pipeline.generate(request("ltx"))
        last = [next(running) for _ in range(stop)][-1]
        assert isinstance(last, Progress)
        assert len(calls) == {"text": last.step, "denoise": max(1, last.step)}.get(last.stage, 3)
        running.close()
        assert next(running, None) is None and threading.active_count() == threads
    again = [item for item in pipeline.generate(request("ltx"))][-1]
    assert isinstance(whole, Video) and isinstance(again, Video)
    assert np.array_equal(whole.frames, again.frames)


def test_an_error_within_comes_out_and_the_next_request_runs(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = ForeignPipeline.open(folder("cog"), CPU, TOLD)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.pipeline.vae, "decode", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(pipeline.generate(request("cog")))
    assert isinstance(list(pipeline.generate(request("cog")))[-1], Video)


def test_a_lora_is_diffusers_own_and_leaves_no_trace(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """The frames of `load_lora_weights` on the same file, bit by bit; then the base's again."""
    network = FAMILIES["ltx"]().transformer
    config = LoraConfig(r=2, init_lora_weights=False, target_modules=["to_q", "to_v"])
    network.add_adapter(config)
    layers = {name: 20 * weight for name, weight in get_peft_model_state_dict(network).items()}
    diffusers.LTXPipeline.save_lora_weights(tmp_path, layers, weight_name="ink.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"")
    theirs = diffusers.DiffusionPipeline.from_pretrained(folder("ltx"))
    theirs.set_progress_bar_config(disable=True)
    theirs.load_lora_weights(str(tmp_path), weight_name="ink.safetensors")
    expected = theirs(
        "a red cat", generator=torch.Generator().manual_seed(5), num_inference_steps=3,
        output_type="np", frame_rate=8, **SIZE["ltx"],
    ).frames[0]  # fmt: skip
    ours = ForeignPipeline.open(folder("ltx"), CPU, TOLD, tmp_path)
    assert ours.description.loras == ("broken", "ink")

    def frames(**changes: Any) -> Any:
        *_, video = ours.generate(request("ltx", **changes))
        assert isinstance(video, Video)
        return video.frames

    base = frames()
    assert np.array_equal(frames(lora="ink"), (expected * 255).round().astype(np.uint8))
    assert not np.array_equal(frames(lora="ink"), base)
    with pytest.raises(RequestError, match="lora is 'broken'; allowed: a file that fits"):
        frames(lora="broken")
    assert np.array_equal(frames(), base)
    assert not getattr(ours.pipeline.transformer, "peft_config", None)


def test_a_second_request_at_a_time_is_refused(folder: Callable[[str], Path]) -> None:
    pipeline = ForeignPipeline.open(folder("cog"), CPU, TOLD)
    running = pipeline.generate(request("cog"))
    next(running)
    with pytest.raises(RuntimeError, match="small is at work on another request"):
        next(pipeline.generate(request("cog")))
    running.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 48, "height": 48}, "size is '48x48'; allowed: 64x32, 32x16"),
        ({"num_frames": 6}, "num_frames is 6; allowed: 5, 9"),
        ({"flow_shift": 3.0}, "flow_shift is 3.0; allowed: none"),
        ({"video": np.zeros((9, 8, 8, 3), np.uint8)}, "video is 'given'; allowed: none"),
        ({"lora": "ink"}, "lora is 'ink'; allowed: none, since small was opened with none"),
    ],
)
def test_what_it_cannot_do_is_refused_at_once(
    folder: Callable[[str], Path], changes: dict[str, Any], message: str
) -> None:
    pipeline = ForeignPipeline.open(folder("cog"), CPU, TOLD)
    with pytest.raises(RequestError, match=message):
        pipeline.generate(request("cog", **changes))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"_class_name": "CatPipeline"}', "a CatPipeline, which diffusers does not know"),
        ('{"_class_name": "FluxPipeline"}', "FluxPipeline takes no num_frames"),
        ('{"_class_name": "LTXImageToVideoPipeline"}', "starts from image; allowed is text"),
        ("{}", "a None, which"),
    ],
)
def test_what_is_no_text_to_video_pipeline_is_refused(
    tmp_path: Path, index: str, message: str
) -> None:
    (tmp_path / "model_index.json").write_text(index)
    with pytest.raises(CheckpointError, match=message):
        ForeignPipeline.open(tmp_path, CPU)
    with pytest.raises(CheckpointError, match=message):
        describe_foreign(tmp_path, CPU)


@pytest.mark.parametrize("placement", [{"offload": "model"}, {"offload": "group"}])
def test_offloading_changes_no_bit(
    folder: Callable[[str], Path], placement: dict[str, Any]
) -> None:
    """From the CPU to the CPU: every part comes when it is called; twice, and after a close."""
    *_, expected = ForeignPipeline.open(folder("ltx"), CPU, TOLD).generate(request("ltx"))
    pipeline = ForeignPipeline.open(folder("ltx"), Placement.of("cpu", **placement), TOLD)
    running = pipeline.generate(request("ltx"))
    for _ in range(4):
        next(running)
    running.close()
    for _ in range(2):
        *_, video = pipeline.generate(request("ltx"))
        assert isinstance(video, Video) and isinstance(expected, Video)
        assert np.array_equal(video.frames, expected.frames)
    with pytest.raises(CheckpointError, match="text_encoder device is meta; allowed for a LTX"):
        ForeignPipeline.open(folder("ltx"), Placement.of("cpu", text_device="meta"), TOLD)
