"""Every form of checkpoint opens with what it can do; what cannot open says so in a sentence."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from model.description import describe
from model.loading import SUPPORTED
from model.manifest import Manifest
from model.pipeline import (
    CheckpointError,
    GenerationRequest,
    ModelDescription,
    RequestError,
    VideoPipeline,
)

Build = Callable[..., Path]

WAN_SIZES = ("832x480", "480x832", "1280x720", "720x1280")


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("t2v", {"capabilities": ("text", "remix"), "sizes": WAN_SIZES, "guidance_scale_2": None}),
        ("experts", {"capabilities": ("text", "remix", "two_experts"), "guidance_scale_2": 3.0}),
        (
            "ti2v",
            {"capabilities": ("text", "remix", "first_frame"), "fps": 24, "size_multiple": 32},
        ),
        (
            "i2v",
            {
                "capabilities": ("first_frame", "last_frame", "two_experts"),
                "num_inference_steps": 40,
            },
        ),
        ("i2v-clip", {"capabilities": ("first_frame",), "guidance_scale": 5.0}),
        ("flf-clip", {"capabilities": ("last_frame",), "num_inference_steps": 40}),
        (
            "conditioned",
            {
                "capabilities": (
                    *("text", "remix", "first_frame", "last_frame", "keyframes", "extend"),
                    *("extend_backward", "join", "loop", "inpaint"),
                )
            },
        ),
        (
            "embedded",
            {
                "capabilities": ("text", "remix"),
                "sizes": ("64x48", "48x64"),
                "size_multiple": None,
                "num_frames": (17, 9),
                "fps": 8,
                "num_inference_steps": 3,
                "guidance_scale": 2.5,
                "flow_shift": 3.0,
                "max_sequence_length": 12,
                "grammar": ("a {animal} walks {side}",),
                "examples": ("a cat walks left",),
            },
        ),
    ],
)
def test_description_says_what_a_checkpoint_can_do(
    build: Build, form: str, expected: dict[str, Any]
) -> None:
    pipeline = VideoPipeline.from_pretrained(build(form))
    described = dataclasses.asdict(pipeline.description)
    assert described == described | expected
    assert json.loads(json.dumps(described)).keys() == described.keys()
    experts = (pipeline.components.transformer, pipeline.components.transformer_2)
    weights = sum(p.numel() for expert in experts if expert for p in expert.parameters())
    assert described["parameters"] == weights and described["name"] == build(form).name


def test_wan_defaults_end_at_what_it_was_trained_for(build: Build) -> None:
    for form, longest in (("t2v", 81), ("ti2v", 121)):
        lengths = VideoPipeline.from_pretrained(build(form)).description.num_frames
        assert lengths[0] == longest and lengths[-1] == 1  # the default first
        assert all(n % 4 == 1 for n in lengths)


def test_dtype_and_device_are_obeyed(build: Build) -> None:
    """In bf16, what Wan keeps in fp32 stays so, and so does the autoencoder."""
    parts = VideoPipeline.from_pretrained(build("t2v"), "cpu", torch.bfloat16).components
    assert parts.text_encoder.dtype == parts.transformer.proj_out.weight.dtype == torch.bfloat16
    assert parts.transformer.scale_shift_table.dtype == parts.vae.dtype == torch.float32
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""  # so that the defaults are those of a CPU
    by_default = VideoPipeline.from_pretrained(build("t2v")).components.transformer
    assert by_default.dtype == torch.float32 and by_default.device.type == "cpu"


def edited(file: str, **changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        (folder / file).write_text(json.dumps(content | changes))

    return edit


def index(**changes: Any) -> Callable[[Path], None]:
    return edited("model_index.json", **changes)


def dropped(path: str) -> Callable[[Path], None]:
    def drop(folder: Path) -> None:
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return drop


def written(path: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / path).write_bytes(content)

    return write


def without_tensor(folder: Path) -> None:
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["blocks.1.ffn.net.2.weight"]
    save_file(weights, file)


WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
TRANSFORMER = "transformer/config.json"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (dropped("model_index.json"), "model_index.json is missing"),
        (written("model_index.json", b"{"), "model_index.json is not JSON"),
        (written("model_index.json", b"[]"), "model_index.json is not a JSON object"),
        (index(_class_name="WanVACEPipeline"), f"a WanVACEPipeline checkpoint; {SUPPORTED}"),
        (index(_class_name="WanAnimatePipeline"), "a WanAnimatePipeline checkpoint; supported"),
        (
            index(transformer=["diffusers", "WanVACETransformer3DModel"]),
            "transformer: a WanVACETransformer3DModel; supported are",
        ),
        (index(transformer=[None, None]), "transformer: model_index.json names none"),
        (index(vae=["diffusers", "AutoencoderKLNone"]), "vae: diffusers.AutoencoderKLNone is not"),
        (index(vae=["os", "path"]), "vae: os.path is not known"),
        (index(scheduler=["diffusers", "logging"]), "scheduler: diffusers.logging is not known"),
        (index(boundary_ratio=0.9), "transformer_2 is missing, with boundary_ratio"),
        (
            index(transformer_2=["diffusers", "WanTransformer3DModel"]),
            "transformer_2 without boundary_ratio",
        ),
        (
            index(capabilities=["text", "sound"]),
            "capabilities has 'sound'; allowed is a list of text",
        ),
        (
            index(limits={"sizes": ["40x64"]}),
            "limits.sizes has '40x64'; allowed .* multiples of 16",
        ),
        (index(limits={"sizes": ["64"]}), "limits.sizes has '64'"),
        (index(limits={"num_frames": [9, 8]}), "limits.num_frames has 8; allowed is 1 more than"),
        (index(limits={"sizes": []}), r"limits.sizes has \[\]; allowed is a list of at least one"),
        (index(limits=[1]), r"limits has \[1\]; allowed is an object of sizes"),
        (index(limits={"num_frames": 17}), "limits.num_frames has 17; allowed is a list"),
        (index(limits={"fps": "8"}), "limits.fps has '8'; allowed is a whole number from 1 to 240"),
        (
            index(defaults={"guidance_scale": "five"}),
            "defaults.guidance_scale has 'five'; allowed is a number from 0 to 100",
        ),
        (index(defaults={"num_inference_steps": True}), "num_inference_steps has True"),
        (index(max_sequence_length="32"), "max_sequence_length has '32'; allowed is a whole"),
        (index(name=7), "name has 7; allowed is text"),
        (index(expand_timesteps="no"), "expand_timesteps has 'no'; allowed is true or false"),
        (index(vae="x"), r"vae is 'x'; allowed is \[library, class\]"),
        (index(vae=["diffusers"]), r"vae is \['diffusers'\]; allowed is \[library, class\]"),
        (written("examples.json", b"{"), "examples.json is not JSON"),
        (written("examples.json", b"\xff"), "examples.json is not JSON"),
        (written("examples.json", b"[]"), "examples.json is not a JSON object"),
        (
            written("examples.json", b'{"words": null}'),
            "examples.json: words has None; allowed is a list of strings",
        ),
        (written("examples.json", b'{"words": ["a", 3]}'), "words has 3; allowed is a list of"),
        (index(capabilities=["text", "two_experts"]), "two_experts', which needs transformer_2"),
        (index(capabilities=["two_experts"]), "needed is text or first_frame"),
        (index(capabilities=[]), r"capabilities is \[\]; needed is text or first_frame"),
        (dropped("vae"), "vae: the folder .*vae is missing"),
        (dropped("tokenizer/tokenizer.json"), "tokenizer: "),
        (dropped(WEIGHTS), "transformer: .* no file named diffusion_pytorch_model.safetensors"),
        (written(WEIGHTS, b"half a file"), "transformer: "),
        (dropped("text_encoder/model.safetensors"), "text_encoder: "),
        (written("text_encoder/model.safetensors", b"half a file"), "text_encoder: "),
        (without_tensor, "lacks 1 tensors, the first blocks.1.ffn.net.2.weight"),
        (edited(TRANSFORMER, ffn_dim=60), "transformer: .*ffn.net.0.proj"),
        (edited("vae/config.json", z_dim=12), "vae: "),
        (
            edited("scheduler/scheduler_config.json", use_dynamic_shifting=True),
            "use_dynamic_shifting is on",
        ),
    ],
)
def test_a_damaged_or_unsupported_checkpoint_is_refused(
    build: Build, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(build("t2v"), folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=message) as refusal:
        VideoPipeline.from_pretrained(folder)
    assert "\n" not in str(refusal.value)


def test_components_that_do_not_fit_are_refused(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    for part, other, message in (
        ("vae", "ti2v", "the transformer writes 16 channels, but the autoencoder reads 48"),
        (
            "transformer",
            "i2v-clip",
            "the transformer reads image tokens, but image_encoder is missing",
        ),
    ):
        shutil.copytree(build("t2v"), folder)
        shutil.rmtree(folder / part)
        shutil.copytree(build(other) / part, folder / part)
        with pytest.raises(CheckpointError, match=message):
            VideoPipeline.from_pretrained(folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_dim": 20}, "transformer_2 reads text of width 20, but the text encoder writes 24"),
        ({"in_channels": 36}, "in_channels is 16 in transformer, but 36 in transformer_2"),
        ({"out_channels": 48}, "transformer_2 writes 48 channels, but the autoencoder reads 16"),
        (
            {"patch_size": [1, 1, 1]},
            r"patch_size is \[1, 2, 2\] in .* \[1, 1, 1\] in transformer_2",
        ),
        ({"image_dim": 20}, "transformer_2 reads image tokens, but image_encoder is missing"),
    ],
)
def test_experts_that_disagree_are_refused(
    build: Build, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(build("experts"), folder)
    replace_transformer(folder / "transformer_2", change)
    with pytest.raises(CheckpointError, match=message):
        VideoPipeline.from_pretrained(folder)


def replace_transformer(folder: Path, change: dict[str, Any]) -> None:
    """Save random weights of a changed configuration in place of a folder's."""
    config = WanTransformer3DModel.load_config(folder)
    shutil.rmtree(folder)
    WanTransformer3DModel.from_config(config, **change).save_pretrained(folder)


def test_sides_are_multiples_of_both_sides_of_a_patch(build: Build, tmp_path: Path) -> None:
    """Patches of 4 by 2 latent cells need 32 pixels: 720 is no such side, 48 is refused."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(build("t2v"), folder)
    replace_transformer(folder / "transformer", {"patch_size": (1, 4, 2)})
    pipeline = VideoPipeline.from_pretrained(folder)
    assert pipeline.description.size_multiple == 32
    assert pipeline.description.sizes == ("832x480", "480x832")
    with pytest.raises(RequestError, match="size is '64x48'; allowed: .* multiples of 32"):
        pipeline.generate(GenerationRequest("a cat", width=64, height=48))
    index(limits={"sizes": ["64x48"]})(folder)
    with pytest.raises(CheckpointError, match="'64x48'; allowed .* multiples of 32"):
        VideoPipeline.from_pretrained(folder)
    with pytest.raises(CheckpointError, match="limits.sizes is missing, .* multiple of 7"):
        described(tmp_path, {}, condition_channels=0, pixels_per_cell=7)


def test_patches_of_several_frames_are_refused(build: Build, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(build("t2v"), folder)
    replace_transformer(folder / "transformer", {"patch_size": (2, 2, 2)})
    with pytest.raises(CheckpointError, match=r"patch_size \(2, 2, 2\); allowed is 1 latent frame"):
        VideoPipeline.from_pretrained(folder)


def test_a_second_expert_is_told_by_its_boundary(tmp_path: Path) -> None:
    """Whether or not the folder claims it, the capability is there exactly with the boundary."""
    for told in (None, ["text"], ["text", "two_experts"]):
        folder = {"capabilities": told, "boundary_ratio": 0.9}
        made = described(tmp_path, folder, condition_channels=0)
        assert made.capabilities == ("text", "remix", "two_experts")
    with pytest.raises(CheckpointError, match="'two_experts'.*; needed is text or first_frame"):
        described(tmp_path, folder | {"capabilities": ["two_experts"]}, condition_channels=0)


def test_channels_that_no_form_of_wan_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="in_channels is 33; allowed are 16 .* and 36"):
        described(tmp_path, {}, condition_channels=17)
    with pytest.raises(CheckpointError, match="capabilities has 'text', but .* first frame"):
        described(tmp_path, {"capabilities": ["text"]}, condition_channels=20)


def described(
    folder: Path, told: dict[str, Any], condition_channels: int, pixels_per_cell: int = 16
) -> ModelDescription:
    return describe(
        "name",
        folder,
        Manifest.of(told),
        latent_channels=16,
        condition_channels=condition_channels,
        pixels_per_cell=pixels_per_cell,
        frames_per_latent=4,
        flow_shift=3.0,
        parameters=1,
    )
