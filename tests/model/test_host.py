"""Several checkpoints in one process: described at once, opened when asked, within a limit."""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import model.host
from benchmarks.checkpoint import write_tiny
from model.host import Host, ServedModel
from model.memory import weight_bytes
from model.pipeline import CheckpointError, GenerationRequest, RequestError, Video, VideoPipeline
from tests.model.test_lora import write_lora

Build = Callable[..., Path]
SMALL: dict[str, Any] = {"width": 64, "height": 48, "num_frames": 9, "num_inference_steps": 2}


@pytest.fixture
def served(build: Build) -> list[ServedModel]:
    limits, defaults = {"sizes": ["64x48"], "num_frames": [9, 5]}, {"num_inference_steps": 2}
    return [
        ServedModel("first", str(build("embedded")), limits=limits, defaults=defaults),
        ServedModel("second", str(build("embedded", "euler")), limits=limits, defaults=defaults),
        ServedModel("third", str(build("embedded")), limits=limits, offload="group"),
    ]


def video(host: Host, name: str) -> np.ndarray:
    *_, made = host.open(name).generate(GenerationRequest("a cat", seed=1, **SMALL))
    assert isinstance(made, Video)
    return made.frames


def test_models_are_described_before_any_is_loaded(
    served: list[ServedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.host, "load", lambda *_: pytest.fail("loaded"))
    host = Host(served, "cpu", 10**9)
    told = host.descriptions()
    assert [d.name for d in told] == ["first", "second", "third"] and host.loaded == ()
    assert told[1].sizes == ("64x48",) and told[1].num_frames == (9, 5)
    assert told[1].size_multiple is None and told[0].num_inference_steps == 2
    for description in told:
        assert description.memory and description.memory.limit == 10**9
        assert description.memory.peak(64, 48, 9) > 1e4
        assert "remix" in asdict(description)["capabilities"]


def test_each_makes_its_own_video_under_the_name_and_limits_that_it_is_served_with(
    served: list[ServedModel], build: Build
) -> None:
    host = Host(served, "cpu", 10**9)
    for one, scheduler in zip(served, ("unipc", "euler", "unipc"), strict=True):
        alone = VideoPipeline.from_pretrained(build("embedded", scheduler))
        expected = alone.render(GenerationRequest("a cat", seed=1, **SMALL)).frames
        assert np.array_equal(video(host, one.name), expected)
        assert host.open(one.name).description in host.descriptions()
    assert host.loaded == ("first", "second", "third")
    with pytest.raises(RequestError, match="num_frames is 17; allowed: 5, 9"):
        host.open("second").generate(GenerationRequest("a cat", num_frames=17))


def test_the_least_recently_used_makes_room_and_the_estimate_is_logged_first(
    served: list[ServedModel], caplog: pytest.LogCaptureFixture
) -> None:
    """To the byte: what the others hold, and what a request takes, is within the limit."""
    host = Host(served, "cpu", 10**9)
    needs = [d.memory.peak(64, 48, 9) for d in host.descriptions() if d.memory]
    networks = [host.open(one.name).components.networks for one in served[:2]]  # type: ignore[attr-defined]
    held = [sum(map(weight_bytes, parts.values())) for parts in networks]
    caplog.set_level(logging.INFO, "kinetograph.host")
    host = Host(served, "cpu", int(max(needs[2] + sum(held), needs[1] + held[0])))
    host.open("first"), host.open("second"), host.open("third")
    assert host.loaded == ("first", "second", "third")
    host = Host(served, "cpu", int(max(needs[2] + sum(held), needs[1] + held[0])) - 1)
    host.open("first"), host.open("second"), host.open("third")
    assert host.loaded == ("second", "third")
    room = int(max(needs)) + 1
    host = Host(served, "cpu", room)
    first = host.open("first")
    assert host.open("first") is first
    caplog.clear()
    host.open("second")
    assert host.loaded == ("second",)
    estimate, eviction = caplog.messages
    assert estimate.startswith("second: ") and f"of {room / 1e9:.2f} GB" in estimate
    assert "9 frames of 64x48" in estimate and eviction == "first makes room for second"
    assert np.array_equal(video(host, "first"), video(Host(served, "cpu", 10**9), "first"))


def test_a_lora_needs_room_too(served: list[ServedModel], build: Build, tmp_path: Path) -> None:
    write_lora(build("embedded"), tmp_path / "ink.safetensors", 1, rank=2000)
    models = [served[0], replace(served[1], loras=tmp_path)]
    memory = Host(models, "cpu", 10**9).descriptions()[1].memory
    assert memory
    plain, adapted = memory.peak(64, 48, 9), memory.peak(64, 48, 9, lora="ink")
    host = Host(models, "cpu", int(adapted) + 1)
    assert plain < adapted
    host.open("first"), host.open("second")
    assert host.loaded == ("first", "second")
    host.open("second", (64, 48, 9), lora="ink")
    assert host.loaded == ("second",)
    with pytest.raises(CheckpointError, match="second: 9 frames of 64x48 take"):
        Host(models, "cpu", int(adapted) - 1).open("second", (64, 48, 9), lora="ink")


def test_use_decides_who_makes_room(served: list[ServedModel], build: Build) -> None:
    models = [*served[:2], ServedModel("other", str(build("embedded")), limits=served[0].limits)]
    host = Host(models, "cpu", 10**9)
    needs = [d.memory.peak(64, 48, 9) for d in host.descriptions() if d.memory]
    resident = host._known["first"].resident
    host = Host(models, "cpu", int(max(needs)) + resident + 1)
    host.open("first"), host.open("second"), host.open("first"), host.open("other")
    assert host.loaded == ("first", "other")


def test_what_does_not_fit_even_alone_is_refused_with_both_numbers(
    served: list[ServedModel],
) -> None:
    host = Host(served, "cpu", 10_000)
    with pytest.raises(
        CheckpointError, match=r"second: 9 frames of 64x48 take 0\.\d\d GB, but the"
    ):
        host.open("second")
    host = Host(
        served, "cpu", int(max(d.memory.peak(64, 48, 9) for d in host.descriptions() if d.memory))
    )
    with pytest.raises(CheckpointError, match="second: 81 frames of 832x480"):
        host.open("second", (832, 480, 81))
    host.open("second")


def test_a_pipeline_of_diffusers_is_hosted_beside_ours(
    served: list[ServedModel], tmp_path: Path
) -> None:
    from tests.model.test_foreign import FAMILIES, TOLD

    FAMILIES["ltx"]().save_pretrained(tmp_path)
    ltx = ServedModel("ltx", str(tmp_path), limits=TOLD["limits"], defaults=TOLD["defaults"])  # type: ignore[arg-type]
    host = Host([served[0], ltx], "cpu", 10**9)
    assert [d.capabilities for d in host.descriptions()] == [("text", "remix"), ("text",)]
    *_, made = host.open("ltx").generate(
        GenerationRequest("a cat", width=64, height=32, num_frames=9)
    )
    assert isinstance(made, Video) and made.frames.shape == (9, 32, 64, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "/no/such"}, "bad: /no/such: no such folder"),
        ({"limits": {"sizes": ["65x64"]}}, "bad: limits.sizes has '65x64'; allowed"),
        ({"offload": "all"}, "bad: offload is 'all'; allowed are none, model, group"),
    ],
)
def test_a_model_that_cannot_be_described_is_named(
    build: Build, change: dict[str, Any], message: str
) -> None:
    bad = ServedModel(**{"name": "bad", "path": str(build("embedded")), **change})
    with pytest.raises(CheckpointError, match=message):
        Host([bad], "cpu", 10**9)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own tracing
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_what_compiles_has_compiled_before_a_checkpoint_is_given_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's tracing without its code generation: prompts of any length find their graphs."""
    write_tiny(tmp_path / "tiny")
    compile_ = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_(self, backend="eager"))
    torch.compiler.reset()
    counters.clear()
    plain, compiled = (
        Host([ServedModel("tiny", str(tmp_path / "tiny"))], "cpu", compiled=told).open("tiny")
        for told in (False, True)
    )
    graphs = counters["stats"]["unique_graphs"]
    assert graphs == 4, "of the first step, which reads the text, and of the rest; for any length"
    for prompt in ("a cat", "a red ball is dropped and bounces", "ball " * 50):
        request = GenerationRequest(prompt, num_inference_steps=3, seed=1)
        (*_, first), (*_, second) = plain.generate(request), compiled.generate(request)
        apart = np.abs(first.frames.astype(int) - second.frames.astype(int))  # type: ignore[union-attr]
        assert apart.max() <= 1, "a shade, where rounding decides"
    assert counters["stats"]["unique_graphs"] == graphs
