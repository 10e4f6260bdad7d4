"""What diffusers' pipelines take of memory is estimated stage by stage, within 15 %.

Compared are the bytes of the tensors that a real request has alive at a time, and the weights of
the parts that it calls: all of them, or under offloading the largest network or layer of a stage.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from diffusers import LTXPipeline, LTXVideoTransformer3DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import nn

import model.foreign
from model.description import Memory
from model.foreign import ForeignPipeline
from model.foreign_description import describe_foreign
from model.foreign_memory import token_side
from model.memory import PeakMemory, weight_bytes
from model.pipeline import GenerationRequest, Progress
from model.placement import Offload, Placement
from tests.model.test_foreign import CPU, FAMILIES
from tests.model.test_foreign import folder as folder

SHAPES = {"ltx": (128, 96, 17), "cog": (64, 48, 9), "hunyuan": (64, 48, 9)}
Folder = Callable[[str], Path]


def told(family: str) -> dict[str, Any]:
    width, height, frames = SHAPES[family]
    limits = {"sizes": [f"{width}x{height}"], "num_frames": [frames]}
    return {"name": family, "limits": limits, "defaults": {"num_inference_steps": 2}}


def measured(
    pipeline: ForeignPipeline, family: str, lora: str | None = None
) -> dict[Offload, dict[str, int]]:
    """Bytes by stage, under every offloading; what its own thread makes is counted."""
    parts = pipeline.pipeline.components.values()
    networks = [part for part in parts if isinstance(part, nn.Module)]
    counter = PeakMemory(torch.device("cpu"), networks, columns=True)
    live, stage = {"text": 0, "denoise": 0, "decode": 0}, ["text"]
    called: dict[tuple[Offload, str], int] = {}

    def note(network: nn.Module, layer: nn.Module, *_: Any) -> None:
        for offload, what in (("model", network), ("group", layer)):
            key = cast(Offload, offload), stage[0]
            called[key] = max(called.get(key, 0), weight_bytes(what))

    for network in networks:
        for layer in (m for m in network.modules() if not list(m.children())):
            layer.register_forward_pre_hook(partial(note, network))
    run, report = model.foreign._Run._call, model.foreign._Run._report

    def counted(self: Any, *arguments: Any) -> None:
        with counter:
            run(self, *arguments)

    def reported(self: Any, item: Progress) -> None:
        live[item.stage] = max(live[item.stage], counter.restart())
        stage[0] = item.stage
        report(self, item)

    width, height, frames = SHAPES[family]
    request = GenerationRequest(
        "a red cat", width=width, height=height, num_frames=frames, lora=lora
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.foreign._Run, "_call", counted)
        patch.setattr(model.foreign._Run, "_report", reported)
        list(pipeline.generate(request))
    whole = sum(map(weight_bytes, networks))
    return {
        offload: {name: peak + called.get((offload, name), whole) for name, peak in live.items()}
        for offload in get_args(Offload)
    }


@pytest.mark.parametrize(
    ("family", "text_int8"), [*((family, False) for family in FAMILIES), ("cog", True)]
)
def test_every_stage_is_what_live_tensors_take(
    folder: Folder, family: str, text_int8: bool
) -> None:
    placement = Placement.of("cpu", text_int8=text_int8)
    pipeline = ForeignPipeline.open(folder(family), placement, told(family))
    for offload, real in measured(pipeline, family).items():
        placed = replace(placement, offload=offload)
        description, _ = describe_foreign(folder(family), placed, told(family))
        memory = description.memory
        assert memory is not None
        for stage, estimated in by_stage(memory, family).items():
            print(f"{family}, {offload}, {stage}: {estimated / real[stage]:.3f} of {real[stage]}")
            assert abs(estimated / real[stage] - 1) <= 0.15
        assert abs(memory.peak(*SHAPES[family]) / max(real.values()) - 1) <= 0.15


def by_stage(memory: Memory, family: str) -> dict[str, float]:
    """The estimate of the largest request's stages."""
    width, height, frames = SHAPES[family]
    area, latent_frames = width * height, (frames - 1) // memory.frames_per_latent + 1
    assert memory.stages.keys() == {"text", "denoise", "decode"}
    return {
        k: c0 + c1 * area + c2 * area * latent_frames for k, (c0, c1, c2) in memory.stages.items()
    }


def test_a_lora_is_counted_with_its_weights_and_what_its_layers_make(
    folder: Folder, tmp_path: Path
) -> None:
    network = FAMILIES["ltx"]().transformer
    layers = ["to_q", "to_v", "proj", "net.2"]
    network.add_adapter(LoraConfig(r=64, init_lora_weights=False, target_modules=layers))
    weights = get_peft_model_state_dict(network)
    LTXPipeline.save_lora_weights(tmp_path, weights, weight_name="ink.safetensors")
    description, _ = describe_foreign(folder("ltx"), CPU, told("ltx"), tmp_path)
    pipeline = ForeignPipeline.open(folder("ltx"), CPU, told("ltx"), tmp_path)
    real = measured(pipeline, "ltx", "ink")["none"]["denoise"]
    memory = description.memory
    assert memory is not None
    adapted = replace(memory, stages=memory.stages | {"denoise": memory.adapted["ink"]})
    with_it, without = (by_stage(each, "ltx")["denoise"] for each in (adapted, memory))
    print(f"{with_it / 1e6:.2f} of {real / 1e6:.2f} MB, {without / 1e6:.2f} without")
    assert abs(with_it / real - 1) <= 0.15 < 1 - without / real


def test_a_pipeline_that_looks_at_values_is_told_by_its_width(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """14 widths of 16 numbers of 4 bytes a token."""
    forward = LTXVideoTransformer3DModel.forward

    def looking(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        assert hidden_states.sum().item() != 0
        return forward(self, hidden_states, *args, **kwargs)

    monkeypatch.setattr(LTXVideoTransformer3DModel, "forward", looking)
    caplog.set_level(logging.INFO, "kinetograph.memory")
    description, networks = describe_foreign(folder("ltx"), CPU, told("ltx"))
    assert "ltx: its memory is told by its width alone (RuntimeError)" in caplog.text
    assert description.memory is not None
    weights = float(sum(map(weight_bytes, networks.values())))
    stages = description.memory.stages
    side = token_side(ForeignPipeline.open(folder("ltx"), CPU, told("ltx")).pipeline)
    assert stages["denoise"] == (weights, 0.0, 14 * 16 * 4 / side**2)
    assert stages["text"] == (weights, 0.0, 0.0) and stages["decode"][2] > 0
