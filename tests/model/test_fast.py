"""A network that is laid out for inference answers as the plain one, and comes back bit by bit.

fp32: two orders of the same sums, at most 2e-6 apart in relative norm; measured 2e-7 to 4e-7. bf16:
as near to the fp32 answer as the plain network is, up to the few per cent by which two equally
good roundings of so few numbers differ.
"""

import copy
from dataclasses import MISSING, fields
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from model.components import Components
from model.conditions import Conditions, reference_tokens
from model.context import Prompt, Schedule
from model.fast import PackedLinear, is_prepared, prepare_for_inference, restore
from model.memory import weight_bytes
from model.placement import Placement
from model.request import ResolvedRequest
from model.sampler import BATCHED_TOKENS, denoise
from model.transformer import SpacetimeTransformer
from tests.model.test_transformer import CLIP, SMALL, error, randomise

FP32 = 2e-6
SIZE = (3, 6, 10)
CASES: dict[str, dict[str, Any]] = {
    "text": {},
    "known tokens": dict(known=True),
    "two texts at once": dict(texts=2),
    "two texts and known tokens": dict(texts=2, known=True),
    "no padding": dict(padding=0),
    "nothing but padding": dict(padding=9),
    "long text": dict(length=20),
    "image tokens": dict(CLIP, image=7, length=512, padding=500),
    "image tokens, short text": dict(CLIP, image=7),
    "no cross_attn_norm": dict(cross_attn_norm=False),
    "5 heads of 48": dict(num_attention_heads=5, attention_head_dim=48),
    "references": dict(reference_tokens=True),
}


def build(**config: Any) -> SpacetimeTransformer:
    torch.manual_seed(0)
    network = SpacetimeTransformer(**SMALL | config).eval()
    randomise(network)
    return network


def asked(
    config: dict[str, Any], texts: int = 1, length: int = 9, padding: int = 4, known: bool = False,
    image: int = 0, size: tuple[int, int, int] = SIZE,
) -> dict[str, Any]:  # fmt: skip
    """Two steps of a video whose texts end in zeros."""
    text = torch.randn(texts, length, SMALL["text_dim"])
    text[:, length - padding :] = 0
    latents = torch.randn(1, config.get("in_channels", 5), *size).expand(texts, -1, -1, -1, -1)
    timesteps, mask = torch.tensor([900.0, 333.0]), None
    moments = list(timesteps[:, None])
    if known:
        mask = torch.rand(size[0], size[1] // 2, size[2] // 2) < 0.4
        moments = [t * (~mask).flatten()[None] for t in timesteps]
    values: dict[str, Any] = dict(text=text, latents=latents, moments=moments)
    values |= dict(schedule=Schedule(timesteps, mask), image=None, references=None)
    if image:
        values["image"] = 0.01 * torch.randn(texts, image, CLIP["image_dim"])
    if config.get("reference_tokens"):
        shown = torch.randn(5, 2, *size[1:])
        values["references"] = reference_tokens(shown, (0, 7), torch.zeros(1), (1, 2, 2), 4)
    return values


@torch.no_grad()
def plain(network: SpacetimeTransformer, values: dict[str, Any]) -> Tensor:
    """The steps through the network as it is, every time from the beginning."""
    steps = []
    for moment in values["moments"]:
        arguments = (values["latents"], moment, values["text"], values["image"])
        steps.append(network(*arguments, references=values["references"]).sample)
    return torch.stack(steps)


@torch.no_grad()
def shared(network: SpacetimeTransformer, values: dict[str, Any]) -> Tensor:
    """The steps with what they share worked out once."""
    prompt, steps = Prompt(values["text"], values["image"]), []
    for step in range(len(values["moments"])):
        arguments = (values["latents"], values["schedule"][step], prompt)
        steps.append(network(*arguments, references=values["references"]).sample)
    return torch.stack(steps)


def split(case: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    names = ("texts", "length", "padding", "known", "image", "size")
    asks = {name: case[name] for name in names if name in case}
    return {k: v for k, v in case.items() if k not in names}, asks


@pytest.mark.parametrize("name", CASES)
def test_it_answers_as_the_plain_network(name: str) -> None:
    config, asks = split(CASES[name])
    network, values = build(**config), asked(config, **asks)
    truth = plain(network, values)
    assert error(shared(network, values), truth) <= FP32
    prepare_for_inference(network)
    assert is_prepared(network)
    assert error(plain(network, values), truth) <= FP32
    values["schedule"].kept.clear()
    assert error(shared(network, values), truth) <= FP32


def test_under_autocast_it_is_as_close_as_the_plain_network() -> None:
    network, values = build(), asked({})
    truth = plain(network, values)
    errors = []
    for prepare in (lambda _: None, prepare_for_inference):
        prepare(network)
        with torch.autocast("cpu", torch.bfloat16):
            errors.append(error(plain(network, values), truth))
    assert 0 < errors[1] <= 1.2 * errors[0]


def test_it_comes_back_bit_by_bit_and_takes_no_more_memory() -> None:
    network, values = build(), asked({})
    before, weights = copy.deepcopy(network.state_dict()), weight_bytes(network)
    truth = plain(network, values)
    prepare_for_inference(network)
    assert weight_bytes(network) == weights and before.keys() != network.state_dict().keys()
    restore(network)
    after = network.state_dict()
    assert list(after) == list(before) and not is_prepared(network)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(weight.requires_grad for weight in network.parameters())
    assert torch.equal(plain(network, values), truth)


def test_bf16_is_as_close_to_fp32_as_the_plain_network() -> None:
    """On 315 tokens, so that attention goes by chunks; at most 1.2 times the plain error."""
    network, values = build(), asked({}, size=(3, 30, 14))
    truth = plain(network, values)
    narrow = SpacetimeTransformer.from_config(network.config).eval()
    narrow.load_state_dict(network.state_dict())
    kept = set(narrow._keep_in_fp32_modules)
    for name, weight in narrow.named_parameters():
        weight.data = weight.data if kept & set(name.split(".")) else weight.data.bfloat16()
    values["latents"], values["text"] = values["latents"].bfloat16(), values["text"].bfloat16()
    before = error(plain(narrow, values), truth)
    prepare_for_inference(narrow)
    after = error(shared(narrow, values), truth)
    print(f"bf16 from fp32: plain {before:.2e}, fast {after:.2e}")
    assert 1e-4 < after <= 1.2 * before


@pytest.mark.parametrize("fault", ["one row more as padding", "another step", "known at t"])
def test_a_fault_is_seen(fault: str) -> None:
    """Each of what steps share, slightly wrong, is a thousand times beyond the bar."""
    network, values = build(), asked({}, known=True)
    truth = plain(network, values)
    prompt, schedule = Prompt(values["text"]), values["schedule"]
    assert prompt.repeats == 4
    if fault == "one row more as padding":
        prompt.repeats += 1
    elif fault == "known at t":
        schedule.index[schedule.index.nonzero()[0]] = 0
    step = schedule[0 if fault == "another step" else 1]
    with torch.no_grad():
        out = network(values["latents"], step, prompt).sample
    assert error(out, truth[1]) > 1000 * FP32


@pytest.mark.parametrize("prepared", [False, True])
def test_keys_and_values_of_a_text_are_made_once(prepared: bool) -> None:
    """By every block, for each text; the first step makes them, and a second network its own."""
    network, other, values = build(), build(), asked({})
    calls: list[int] = []
    for one in (network, other):
        if prepared:
            prepare_for_inference(one)
        for block in one.blocks:
            attention = block.attn2.attention if prepared else block.attn2
            attention.to_k.register_forward_hook(lambda *_: calls.append(1))
    prompt = Prompt(values["text"])
    with torch.no_grad():
        for step in (0, 1, 1, 0):
            for one in (network, other):
                one(values["latents"], values["schedule"][step], prompt)
    assert len(calls) == 2 * SMALL["num_layers"]


@pytest.mark.parametrize("length, products", [(9, 0), (20, 1)])
def test_what_is_found_of_a_short_text_is_not_projected(length: int, products: int) -> None:
    """After the first step, which projects the text's values; 3 heads of 20: up to 10 keys."""
    network, values = build(), asked({}, length=length)
    prepare_for_inference(network)
    calls: list[int] = []
    for block in network.blocks:
        block.attn2.attention.to_out[0].register_forward_hook(lambda *_: calls.append(1))
    prompt = Prompt(values["text"])
    with torch.no_grad():
        network(values["latents"], values["schedule"][0], prompt)
        calls.clear()
        network(values["latents"], values["schedule"][1], prompt)
    assert len(calls) == products * SMALL["num_layers"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own tracing
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_it_compiles_to_the_same_answer() -> None:
    """By torch's tracing, without its code generation, which is slow; no block breaks the graph."""
    torch.compiler.reset()
    network, values = build(), asked({}, known=True)
    truth = plain(network, values)
    prepare_for_inference(network, compiled=True)
    for block in network.blocks:
        block.compile(backend="eager", fullgraph=True)
    assert error(shared(network, values), truth) <= FP32


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
def test_compiled_blocks_take_prompts_of_any_length() -> None:
    """The graphs of a first prompt, and those for any length that a second one has made."""
    torch.compiler.reset()
    network = build()
    prompts = [asked({}, length=12, padding=padding) for padding in (5, 3, 8, 2, 7)]
    truths = [plain(network, values) for values in prompts]
    prepare_for_inference(network, compiled=True)
    assert any(isinstance(module, PackedLinear) for module in network.modules())
    counter = CompileCounter()
    for block in network.blocks:
        block.compile(backend=counter, fullgraph=True)
    graphs = []
    for values, truth in zip(prompts, truths, strict=True):
        assert error(shared(network, values), truth) <= FP32
        graphs.append(counter.frame_count)
    assert graphs == [2, 4, 4, 4, 4]  # of the first step, which makes keys and values, and the rest


def test_both_passes_of_guidance_at_once_are_those_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two steps with some tokens known, 45 tokens; fp32 rounding, grown by a guidance of 5."""
    network, values = build(), asked({}, texts=2)
    prepare_for_inference(network)
    batches: list[int] = []
    network.register_forward_pre_hook(
        lambda _, __, kwargs: batches.append(len(kwargs["hidden_states"])), with_kwargs=True
    )
    others = [field.name for field in fields(Components) if field.default is MISSING]
    told = dict.fromkeys(others) | {"transformer": network, "placement": Placement.of("cpu")}
    known = torch.rand(SIZE[0], SIZE[1] // 2, SIZE[2] // 2) < 0.4
    noise = values["latents"][:1]
    given = Conditions(torch.zeros_like(noise), known)

    def video() -> Tensor:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        scheduler.set_timesteps(2)
        parts = Components(**told)  # type: ignore[arg-type]
        settings = ResolvedRequest(
            prompt="", negative_prompt="", height=0, width=0, num_frames=1, fps=8,
            num_inference_steps=2, guidance_scale=5.0, guidance_scale_2=5.0, flow_shift=3.0,
            seed=0, strength=1.0, lora=None,
        )  # fmt: skip
        return list(denoise(parts, settings, scheduler, noise, values["text"], given))[-1]

    at_once = video()
    monkeypatch.setitem(BATCHED_TOKENS, "cpu", 0)
    assert error(at_once, video()) <= 1e-5
    assert batches == [2] * 2 + [1] * 4
