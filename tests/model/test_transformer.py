"""SpacetimeTransformer is WanTransformer3DModel: same files, same answers.

diffusers writes random weights, norms, biases and tables included, and both read them back. Two
orders of the same fp32 sums differ by 3e-7 in relative norm; the bar is 1e-5.
"""

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FirstBlockCacheConfig, WanTransformer3DModel
from torch import Tensor

from model.transformer import SpacetimeTransformer

FP32 = 1e-5
SMALL: dict[str, Any] = dict(
    num_attention_heads=3,
    attention_head_dim=20,
    in_channels=5,
    out_channels=5,
    text_dim=24,
    freq_dim=32,
    ffn_dim=70,
    num_layers=2,
)
CLIP: dict[str, Any] = dict(image_dim=12, added_kv_proj_dim=60, in_channels=36, out_channels=16)
CASES: dict[str, dict[str, Any]] = {
    "text": {},
    "one clip": dict(batch=1),
    "timestep per token": dict(per_token=True),
    "one timestep for every token": dict(batch=1, per_token=True, levels=1),
    "36 channels in, 16 out": dict(in_channels=36, out_channels=16),
    "image tokens": dict(**CLIP, image=(2, 7), text_length=512),
    "first and last image": dict(**CLIP, image=(4, 7), text_length=512, pos_embed_seq_len=14),
    "image tokens, short text": dict(**CLIP, image=(2, 7), text_length=30),
    "image tokens as text": dict(image_dim=12, image=(2, 7)),
    "image model without image": dict(**CLIP, text_length=512),
    "latents that patches do not fill": dict(size=(3, 7, 9)),
    "5 heads of 48": dict(num_attention_heads=5, attention_head_dim=48),
    "1 head of 6": dict(num_attention_heads=1, attention_head_dim=6),
    "patch (2, 2, 1)": dict(patch_size=(2, 2, 1), size=(4, 6, 3), per_token=True),
    "patch (1, 4, 2)": dict(patch_size=(1, 4, 2), size=(3, 12, 6)),
    "one frame": dict(size=(1, 10, 6)),
    "no cross_attn_norm": dict(cross_attn_norm=False),
    "odd freq_dim": dict(freq_dim=33),
    "out_channels from in_channels": dict(out_channels=None),
    "large eps": dict(eps=1e-3),
}


def randomise(network: torch.nn.Module) -> None:
    """Move every weight off its initial value, so that nothing hides behind a 0 or a 1."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))


def error(x: Tensor, truth: Tensor) -> float:
    return float((x.double() - truth.double()).norm() / truth.double().norm())


def save_wan(folder: Path, seed: int, config: dict[str, Any]) -> None:
    torch.manual_seed(seed)
    wan = WanTransformer3DModel(**config)
    randomise(wan)
    wan.save_pretrained(folder)


def inputs(
    config: dict[str, Any],
    batch: int = 2,
    size: tuple[int, ...] = (3, 6, 10),
    text_length: int = 7,
    per_token: bool = False,
    levels: int = 3,
    image: tuple[int, int] | None = None,
) -> dict[str, Tensor]:
    patch = config.get("patch_size", (1, 2, 2))
    count = math.prod(n // p for n, p in zip(size, patch, strict=True))
    shape = (batch, count) if per_token else (batch,)
    some = 1000 * torch.rand(levels)
    values = dict(
        hidden_states=torch.randn(batch, config["in_channels"], *size),
        timestep=some[torch.randint(levels, shape)] if per_token else 1000 * torch.rand(shape),
        encoder_hidden_states=torch.randn(batch, text_length, config["text_dim"]),
    )
    if image is not None:
        # Small, so that the eps of the first norm counts.
        values["encoder_hidden_states_image"] = 0.01 * torch.randn(*image, config["image_dim"])
    return values


def prepare(folder: Path, seed: int = 0, **case: Any) -> dict[str, Tensor]:
    """Save a WanTransformer3DModel and return what to ask it."""
    names = ("batch", "size", "text_length", "per_token", "levels", "image")
    asked = {name: case.pop(name) for name in names if name in case}
    save_wan(folder, seed, SMALL | case)
    return inputs(SMALL | case, **asked)


@torch.no_grad()
def answer(kind: Any, folder: Path, values: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    network = kind.from_pretrained(folder, torch_dtype=dtype)
    cast = {k: v if k == "timestep" else v.to(dtype) for k, v in values.items()}
    sample: Tensor = network(**cast, return_dict=False)[0]
    assert sample.dtype == network.dtype == dtype
    return sample


def parity(folder: Path, values: dict[str, Tensor]) -> float:
    ours, wan = (
        answer(kind, folder, values, torch.float32)
        for kind in (SpacetimeTransformer, WanTransformer3DModel)
    )
    assert ours.shape == wan.shape
    return error(ours, wan)


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_diffusers(name: str, tmp_path: Path) -> None:
    assert parity(tmp_path, prepare(tmp_path, **CASES[name])) <= FP32


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_diffusers_on_any_configuration(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    patch = draw.choice([(1, 2, 2), (1, 2, 2), (1, 1, 1), (2, 2, 2), (1, 2, 3), (1, 3, 1)])
    heads, head_dim = draw.randint(1, 5), 2 * draw.randint(2, 33)
    with_image = draw.random() < 0.4
    case = dict(
        patch_size=patch,
        num_attention_heads=heads,
        attention_head_dim=head_dim,
        in_channels=draw.randint(1, 40),
        out_channels=draw.randint(1, 20),
        text_dim=draw.randint(3, 40),
        freq_dim=draw.randint(2, 70),
        ffn_dim=draw.randint(3, 90),
        num_layers=draw.randint(1, 3),
        cross_attn_norm=draw.random() < 0.8,
        batch=draw.randint(1, 3),
        size=tuple(p * draw.randint(1, 5) + draw.randrange(p) for p in patch),
        text_length=draw.randint(1, 20),
        per_token=draw.random() < 0.5,
    )
    if with_image:
        image = (case["batch"], draw.randint(1, 9))
        case |= dict(image_dim=draw.randint(2, 30), image=image, text_length=512)
        case |= dict(added_kv_proj_dim=heads * head_dim)
    assert parity(tmp_path, prepare(tmp_path, seed, **case)) <= FP32


@pytest.mark.parametrize(
    "name",
    ["text", "timestep per token", "36 channels in, 16 out", "image tokens", "5 heads of 48"],
)
def test_bf16_is_as_close_to_fp32_as_diffusers(name: str, tmp_path: Path) -> None:
    """What diffusers keeps in fp32 stays so here, and no rounding is added: at most 1.2 times its
    error, where two equally good roundings of so few numbers differ by some per cent."""
    values = prepare(tmp_path, **CASES[name])
    truth = answer(WanTransformer3DModel, tmp_path, values, torch.float32)
    ours, wan = (
        error(answer(kind, tmp_path, values, torch.bfloat16), truth)
        for kind in (SpacetimeTransformer, WanTransformer3DModel)
    )
    assert ours <= 1.2 * wan


def test_bf16_keeps_in_fp32_what_diffusers_keeps(tmp_path: Path) -> None:
    save_wan(tmp_path, 0, SMALL | CLIP)
    ours, wan = (
        {
            name: weight.dtype
            for name, weight in kind.from_pretrained(
                tmp_path, torch_dtype=torch.bfloat16
            ).named_parameters()
        }
        for kind in (SpacetimeTransformer, WanTransformer3DModel)
    )
    assert ours == wan and len(set(wan.values())) == 2


@pytest.mark.parametrize("name", ["text", "first and last image"])
def test_diffusers_opens_what_we_save(name: str, tmp_path: Path) -> None:
    """The files hold the same numbers, so diffusers' answer before and after is bit-equal."""
    values = prepare(tmp_path / "wan", **CASES[name])
    before = answer(WanTransformer3DModel, tmp_path / "wan", values, torch.float32)
    SpacetimeTransformer.from_pretrained(tmp_path / "wan").save_pretrained(tmp_path / "ours")
    after = answer(WanTransformer3DModel, tmp_path / "ours", values, torch.float32)
    assert torch.equal(before, after)


def test_a_seed_initialises_as_in_diffusers() -> None:
    """Same names, same order of draws, same distributions: equal bit for bit."""
    states = []
    for kind in (SpacetimeTransformer, WanTransformer3DModel):
        torch.manual_seed(0)
        states.append(kind(**SMALL | CLIP | dict(pos_embed_seq_len=14)).state_dict())
    ours, wan = states
    assert list(ours) == list(wan)
    assert all(torch.equal(ours[name], wan[name]) for name in wan)


@pytest.mark.parametrize(
    "name",
    [
        "blocks.0.attn1.norm_q.weight",
        "blocks.1.attn2.norm_k.weight",
        "blocks.1.attn2.norm_added_k.weight",
        "blocks.0.norm2.bias",
        "blocks.1.scale_shift_table",
        "condition_embedder.image_embedder.norm1.weight",
        "condition_embedder.time_embedder.linear_1.weight",
        "patch_embedding.weight",
        "scale_shift_table",
    ],
)
@torch.no_grad()
def test_parity_sees_one_weight_that_is_off(name: str, tmp_path: Path) -> None:
    """The bar can fail: a hundredth of its spread on one tensor breaks it."""
    values = prepare(tmp_path, **CASES["image tokens"])
    wan = answer(WanTransformer3DModel, tmp_path, values, torch.float32)
    network = SpacetimeTransformer.from_pretrained(tmp_path)
    assert error(network(**values).sample, wan) <= FP32
    weight = network.get_parameter(name)
    weight.add_(0.01 * weight.std() * torch.randn_like(weight))
    assert error(network(**values).sample, wan) > FP32


def test_cache_context_and_adapter_scale_leave_the_answer_alone(tmp_path: Path) -> None:
    """Both are what WanPipeline puts around each call; without a cache or LoRA they do nothing."""
    values = prepare(tmp_path)
    network = SpacetimeTransformer.from_pretrained(tmp_path)
    plain = network(**values).sample
    with network.cache_context("cond"):
        assert torch.equal(network(**values, attention_kwargs={"scale": 0.5}).sample, plain)


@torch.no_grad()
def test_first_block_cache_answers_as_in_diffusers(tmp_path: Path) -> None:
    """Of a second step whose first block says little new, all later blocks are taken as before."""
    first = prepare(tmp_path, num_layers=3)
    second = first | {"timestep": first["timestep"] + 3}
    answers = []
    for kind in (SpacetimeTransformer, WanTransformer3DModel):
        network = kind.from_pretrained(tmp_path)
        plain = network(**second).sample
        network.enable_cache(FirstBlockCacheConfig(threshold=10.0))
        with network.cache_context("cond"):
            network(**first)
            answers.append(network(**second).sample)
        assert error(answers[-1], plain) > FP32  # it was used
        network.disable_cache()
        assert torch.equal(network(**second).sample, plain)
    assert error(*answers) <= FP32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(timestep=torch.rand(3)), r"timestep has shape \(3,\); \(2,\) or \(2, 45\)"),
        (dict(timestep=torch.rand(2, 44)), r"\(2, 44\); \(2,\) or \(2, 45\)"),
        (dict(encoder_hidden_states=torch.randn(1, 7, 24)), "2 clips, .* a batch of 1"),
        (dict(encoder_hidden_states_image=torch.randn(2, 7, 12)), "image_dim is None"),
        (dict(encoder_hidden_states_image=torch.randn(3, 7, 12)), "2 clips, .* a batch of 3"),
    ],
)
def test_refuses_what_does_not_fit(change: dict[str, Tensor], message: str) -> None:
    network = SpacetimeTransformer(**SMALL)
    with pytest.raises(ValueError, match=message):
        network(**inputs(SMALL) | change)


def test_refuses_a_wrong_number_of_image_rows() -> None:
    config = SMALL | CLIP | dict(pos_embed_seq_len=14)
    network = SpacetimeTransformer(**config)
    with pytest.raises(ValueError, match=r"\(7, 7\) long; .* asks for 14 rows"):
        network(**inputs(config, image=(2, 7), text_length=512))


def test_refuses_an_odd_head_dim() -> None:
    with pytest.raises(ValueError, match="attention_head_dim is 21"):
        SpacetimeTransformer(**SMALL | dict(attention_head_dim=21))
