"""Offloading moves weights and changes no bit; eight bits for the text change little.

There is one device here, so weights move from the CPU to the CPU: what is proved is that every
network comes when it is called, whichever way it is called, and goes when it is not.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from model.memory import weight_bytes
from model.pipeline import CheckpointError, GenerationRequest, VideoPipeline
from model.quantize import Int8Linear, quantize_linears
from model.request import resolve

Build = Callable[..., Path]
SMALL: dict[str, Any] = {"num_inference_steps": 3, "seed": 3}
FRAMES = np.random.default_rng(0).integers(0, 256, (9, 48, 64, 3), np.uint8)
PICTURE = Image.fromarray(FRAMES[0])


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("embedded", {}),
        ("embedded", {"video": FRAMES, "strength": 0.7}),
        ("experts", {"guidance_scale_2": 2.0, "height": 48, "width": 64, "num_frames": 5}),
        ("i2v-clip", {"image": PICTURE, "height": 48, "width": 64, "num_frames": 5}),
    ],
    ids=["embedded", "remix", "experts", "i2v-clip"],
)
def test_offloading_changes_no_bit(
    build: Build, form: str, options: dict[str, Any], offload: Any
) -> None:
    request = GenerationRequest("a red cat", **SMALL, **options)
    expected = VideoPipeline.from_pretrained(build(form)).render(request).frames
    pipeline = VideoPipeline.from_pretrained(build(form), "cpu", offload=offload)
    for _ in range(2):
        assert np.array_equal(pipeline.render(request).frames, expected)


def test_under_offloading_every_network_is_hooked_and_sent_back(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """model: each comes once it is called and has gone when the video is there, or closed."""
    pipeline = VideoPipeline.from_pretrained(build("experts"), "cpu", offload="model")
    moves: list[tuple[str, str]] = []
    networks = pipeline.components.networks
    for name, network in networks.items():
        hook = network._hf_hook
        monkeypatch.setattr(hook, "pre_forward", _noted(hook.pre_forward, moves, name, "comes"))
    kind = type(networks["vae"]._hf_hook)
    monkeypatch.setattr(kind, "init_hook", _noted(kind.init_hook, moves, "any", "goes"))
    request = GenerationRequest("a cat", height=48, width=64, num_frames=5, **SMALL)
    pipeline.render(request)
    came = [name for name, what in moves if what == "comes"]
    assert list(dict.fromkeys(came)) == ["text_encoder", "transformer", "transformer_2", "vae"]
    assert [what for _, what in moves][-4:] == ["goes"] * 4
    moves.clear()
    running = pipeline.generate(request)
    next(running), next(running)
    running.close()
    assert [what for _, what in moves] == ["comes"] + ["goes"] * 4


def _noted(method: Any, moves: list[tuple[str, str]], name: str, what: str) -> Any:
    def noted(*arguments: Any, **options: Any) -> Any:
        moves.append((name, what))
        return method(*arguments, **options)

    return noted


def test_a_group_s_layers_are_hooked_one_by_one(build: Build) -> None:
    pipeline = VideoPipeline.from_pretrained(build("t2v"), "cpu", offload="group")
    parts = pipeline.components
    assert all(hasattr(block, "_diffusers_hook") for block in parts.transformer.blocks)
    leaves = [m for m in parts.text_encoder.modules() if isinstance(m, nn.Linear | nn.Embedding)]
    assert leaves and all(hasattr(leaf, "_diffusers_hook") for leaf in leaves)
    assert hasattr(parts.vae, "_hf_hook") and not hasattr(parts.vae, "_diffusers_hook")


def test_an_unknown_way_to_offload_is_refused(build: Build) -> None:
    with pytest.raises(CheckpointError, match="offload is 'disk'; allowed are none, model, group"):
        VideoPipeline.from_pretrained(build("t2v"), offload="disk")  # type: ignore[arg-type]


def test_a_weight_of_eight_bits_is_off_by_half_a_step_at_most() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(33, 17).requires_grad_(False)
    linear.weight[4] = 0
    linear.weight[5] *= 1e4
    narrow = Int8Linear(linear)
    step = linear.weight.abs().amax(1) / 127
    weight = narrow.weight.float() * narrow.step[:, None]
    assert narrow.weight.dtype == torch.int8 and weight_bytes(narrow) == 33 * 17 + 2 * 4 * 17
    assert ((weight - linear.weight).abs().amax(1) <= 0.5001 * step).all()
    x = torch.randn(2, 5, 33)
    # The same sum in another order: fp32 rounds to 6e-8 of the largest term.
    torch.testing.assert_close(narrow(x), F.linear(x, weight, linear.bias), rtol=1e-5, atol=1e-5)
    assert narrow(x.bfloat16()).dtype == torch.bfloat16 or narrow.step.dtype == torch.float32


def test_only_linear_layers_are_narrowed_and_all_of_them() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Embedding(5, 3), nn.Linear(4, 2)))
    quantize_linears(network)
    kinds = [type(m) for m in network.modules() if not isinstance(m, nn.Sequential)]
    assert kinds == [Int8Linear, nn.Embedding, Int8Linear]


@pytest.mark.parametrize("offload", ["none", "group"])
def test_a_text_encoder_of_eight_bits_says_nearly_the_same(build: Build, offload: Any) -> None:
    """Embeddings within 2 %, relative by norm: steps are 1/127 of a row's largest weight."""
    plain = VideoPipeline.from_pretrained(build("t2v"), "cpu", torch.bfloat16)
    narrow = VideoPipeline.from_pretrained(
        build("t2v"), "cpu", torch.bfloat16, offload=offload, text_int8=True
    )
    linears = [m for m in narrow.components.text_encoder.modules() if isinstance(m, nn.Linear)]
    assert linears and all(type(m) is Int8Linear for m in linears)
    request = GenerationRequest("a red cat", height=48, width=64, num_frames=5, **SMALL)
    embeddings = []
    for pipeline in (plain, narrow):
        embeddings.append(pipeline.encode_text(resolve(request, pipeline.description)).float())
    error = float((embeddings[0] - embeddings[1]).norm() / embeddings[0].norm())
    print(f"{error:.4f}")
    assert 0 < error <= 0.02
    assert narrow.render(request).frames.shape == (5, 48, 64, 3)


def test_a_text_encoder_may_stay_apart(build: Build) -> None:
    """On a device of its own, and what it says goes to where the transformer is."""
    pipeline = VideoPipeline.from_pretrained(build("t2v"), "meta", torch.float32, "none", "cpu")
    parts = pipeline.components
    assert (parts.text_encoder.device.type, parts.transformer.device.type) == ("cpu", "meta")
    settings = resolve(GenerationRequest("a cat"), pipeline.description)
    assert pipeline.encode_text(settings).device.type == "meta"
    same = VideoPipeline.from_pretrained(build("t2v"), "cpu", text_device="cpu")
    assert same.components.placement.text_device is None  # the same: nothing is apart
