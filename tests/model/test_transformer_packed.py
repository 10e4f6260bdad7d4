"""Packing, training modes and adapters change how the network runs, never what it answers.

Batching the same sums another way moves a forward pass by some 3e-7 in relative norm and
gradients by 1e-6, fp32 rounding; the bars are 2e-6 and 1e-5.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from peft import LoraConfig
from torch import Tensor

from model.layers import spread
from model.tokens import Segments, Tokens, pack
from model.transformer import SpacetimeTransformer

FORWARD, GRADIENT = 2e-6, 1e-5
CONFIG: dict[str, Any] = dict(
    num_attention_heads=3,
    attention_head_dim=20,
    in_channels=5,
    out_channels=4,
    text_dim=24,
    freq_dim=32,
    ffn_dim=70,
    num_layers=3,
)
Clip = dict[str, Tensor]


def build(**config: Any) -> SpacetimeTransformer:
    torch.manual_seed(0)
    network = SpacetimeTransformer(**CONFIG | config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network


def clip(size: tuple[int, int, int], text_length: int, per_token: bool = False) -> Clip:
    count = size[0] * (size[1] // 2) * (size[2] // 2)
    timestep = 1000 * torch.rand(1)
    if per_token:  # a clean first frame, and the others at two noise levels
        timestep = torch.tensor([0.0, 400.0, 900.0])[torch.arange(count) * 3 // count][None]
    return dict(
        hidden_states=torch.randn(1, 5, *size),
        timestep=timestep,
        encoder_hidden_states=torch.randn(1, text_length, 24),
    )


def ragged() -> list[Clip]:
    """Clips of different sizes, durations, timesteps and text lengths, one a single token."""
    return [
        clip((3, 6, 10), 7),
        clip((1, 4, 4), 1),
        clip((5, 2, 6), 12, per_token=True),
        clip((1, 2, 2), 3),
    ]


def packed(network: SpacetimeTransformer, clips: list[Clip]) -> list[Tensor]:
    """Each clip's answer `(n, pt·ph·pw·C)` from one packed call."""
    parts = [Tokens.from_latents(c["hidden_states"], c["timestep"], (1, 2, 2)) for c in clips]
    text = [c["encoder_hidden_states"][0] for c in clips]
    lengths = Segments(tuple(len(rows) for rows in text))
    tokens = pack(parts)
    return list(
        network.forward_tokens(tokens, torch.cat(text), lengths).split(tokens.segments.lengths)
    )


def one_by_one(network: SpacetimeTransformer, clips: list[Clip]) -> list[Tensor]:
    """The same through the ordinary forward, laid out as the head writes it: channels last."""
    answers = []
    for c in clips:
        sample = network(**c).sample[0].unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        answers.append(sample.permute(1, 2, 4, 3, 5, 0).flatten(3).flatten(0, 2))
    return answers


def error(x: Tensor, truth: Tensor) -> float:
    return float((x - truth).detach().norm() / truth.detach().norm())


def gradients(network: SpacetimeTransformer, outputs: list[Tensor]) -> dict[str, Tensor]:
    network.zero_grad()
    sum(out.float().square().mean() for out in outputs).backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def worst(ours: dict[str, Tensor], truth: dict[str, Tensor]) -> float:
    assert ours.keys() == truth.keys()
    return max(error(ours[name], truth[name]) for name in truth)


def test_packed_is_one_by_one() -> None:
    network, clips = build(), ragged()
    pairs = zip(packed(network, clips), one_by_one(network, clips), strict=True)
    assert max(error(ours, truth) for ours, truth in pairs) <= FORWARD


def test_packed_gradients_are_one_by_one() -> None:
    network, clips = build(), ragged()
    ours = gradients(network, packed(network, clips))
    assert worst(ours, gradients(network, one_by_one(network, clips))) <= GRADIENT


@pytest.mark.parametrize("column", ["coords", "timesteps", "text", "segments"])
def test_a_clip_that_is_packed_wrongly_is_seen(column: str) -> None:
    """One wrong entry in one column of one clip is far beyond the bar."""
    network, clips = build(), ragged()
    truth = packed(network, clips)
    tokens = pack(
        [Tokens.from_latents(c["hidden_states"], c["timestep"], (1, 2, 2)) for c in clips]
    )
    text, lengths = torch.cat([c["encoder_hidden_states"][0] for c in clips]), [7, 1, 12, 3]
    fields = {name: getattr(tokens, name) for name in Tokens.__dataclass_fields__}
    if column == "coords":
        fields["coords"] = tokens.coords + torch.eye(len(tokens.coords), 3)
    elif column == "timesteps":
        fields["timesteps"] = tokens.timesteps + 1.0 * (torch.arange(len(tokens.timesteps)) == 0)
    elif column == "text":
        lengths = [6, 2, 12, 3]
    else:
        fields["segments"] = Segments((44, 5, 15, 1))
    out = network.forward_tokens(Tokens(**fields), text, Segments(tuple(lengths)))
    assert error(out, torch.cat(truth)) > 100 * FORWARD


def test_packed_image_tokens_are_one_by_one() -> None:
    network = build(image_dim=12, added_kv_proj_dim=60)
    clips = [clip((3, 4, 6), 512), clip((1, 6, 2), 512)]
    images = [torch.randn(1, 5, 12), torch.randn(1, 9, 12)]
    parts = [Tokens.from_latents(c["hidden_states"], c["timestep"], (1, 2, 2)) for c in clips]
    text = torch.cat([c["encoder_hidden_states"][0] for c in clips])
    image = torch.cat([rows[0] for rows in images])
    arguments = (text, Segments.even(2, 512), image, Segments((5, 9)))
    ours = network.forward_tokens(pack(parts), *arguments)
    truth = one_by_one(
        network,
        [c | dict(encoder_hidden_states_image=i) for c, i in zip(clips, images, strict=True)],
    )
    assert error(ours, torch.cat(truth)) <= FORWARD


def test_runs_without_an_index_are_runs_with_one() -> None:
    """A timestep a frame, as even runs or as an index: the same rows, broadcast or gathered."""
    network = build()
    coords, patches = torch.rand(24, 3) * 5, torch.randn(24, 20)
    rows, text = torch.tensor([0.0, 300.0, 900.0, 50.0]), torch.randn(9, 24)
    columns = dict(patches=patches, coords=coords, timesteps=rows, segments=Segments((12, 12)))
    runs = network.forward_tokens(Tokens(**columns), text, Segments((4, 5)))
    index = torch.arange(4).repeat_interleave(6)
    gathered = Tokens(**columns, timestep_index=index)
    assert error(network.forward_tokens(gathered, text, Segments((4, 5))), runs) <= FORWARD


def beside(first: Clip, second: Clip) -> Tokens:
    """One segment of two clips' tokens, the second's as references to the first."""
    clips = [
        Tokens.from_latents(c["hidden_states"], c["timestep"], (1, 2, 2)) for c in (first, second)
    ]
    tokens, count = pack(clips), len(clips[0].coords)
    columns = {name: getattr(tokens, name) for name in ("patches", "coords", "timesteps")}
    return Tokens(
        **columns,
        segments=Segments((len(tokens.coords),)),
        timestep_index=tokens.timestep_index,
        reference=torch.arange(len(tokens.coords)) >= count,
    )


def test_references_are_told_from_a_clips_own_tokens_and_only_they() -> None:
    """Without its learned flag a reference is a token like others; the flag moves references."""
    network = build(reference_tokens=True)
    tokens, text = beside(clip((3, 6, 4), 7), clip((1, 6, 4), 1)), torch.randn(7, 24)
    flagged = network.forward_tokens(tokens, text, Segments((7,)))
    unflagged = copy.copy(tokens)
    object.__setattr__(unflagged, "reference", None)
    plain = network.forward_tokens(unflagged, text, Segments((7,)))
    assert error(flagged, plain) > 1e-3
    with torch.no_grad():
        network.reference_embedding.zero_()
    assert torch.equal(network.forward_tokens(tokens, text, Segments((7,))), plain)


def test_references_are_refused_by_a_network_that_never_learned_them() -> None:
    tokens = beside(clip((3, 6, 4), 7), clip((1, 6, 4), 1))
    with pytest.raises(ValueError, match="reference_tokens is False"):
        build().forward_tokens(tokens, torch.randn(7, 24), Segments((7,)))


def test_diffusers_opens_a_network_that_learned_references(tmp_path: Path) -> None:
    """Its answer to a clip without references is ours, since nothing else is new."""
    network = build(reference_tokens=True)
    network.save_pretrained(tmp_path)
    theirs = WanTransformer3DModel.from_pretrained(tmp_path)
    values = batch()
    assert error(theirs(**values).sample, network(**values).sample) <= 1e-5
    again = SpacetimeTransformer.from_pretrained(tmp_path)
    assert torch.equal(again.reference_embedding, network.reference_embedding)


def batch() -> Clip:
    return dict(
        hidden_states=torch.randn(3, 5, 2, 6, 4),
        timestep=torch.tensor([20.0, 900.0, 333.0]),
        encoder_hidden_states=torch.randn(3, 6, 24),
    )


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    network, values = build(), batch()
    plain = gradients(network, [network(**values).sample])
    calls = []
    network.blocks[1].register_forward_pre_hook(lambda *_: calls.append(1))
    network.enable_gradient_checkpointing()
    again = gradients(network, [network(**values).sample])
    assert len(calls) == 2, "the block was not recomputed"
    assert worst(again, plain) <= GRADIENT


def test_autocast_trains_fp32_weights_as_bf16_precision_allows() -> None:
    """Gradients are fp32 and a few bf16 steps (2^-8 each, three layers deep) from exact ones."""
    network, values = build(), batch()
    truth = gradients(network, [network(**values).sample])
    with torch.autocast("cpu", torch.bfloat16):
        sample = network(**values).sample
    ours = gradients(network, [sample])
    assert sample.dtype == torch.bfloat16
    assert all(grad.dtype == torch.float32 for grad in ours.values())
    flat, exact = (torch.cat([g.flatten() for g in x.values()]) for x in (ours, truth))
    assert 1e-5 < error(flat, exact) <= 0.03


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own tracing
def test_a_block_compiles_whole(per_token: bool) -> None:
    """No graph break inside a block, dense or indexed, and the same answer."""
    network, values = build(), batch()
    if per_token:
        values["timestep"] = torch.tensor([0.0, 500.0]).repeat_interleave(6).expand(3, 12)
    plain = network(**values).sample
    for block in network.blocks:
        block.compile(backend="eager", fullgraph=True)
    assert error(network(**values).sample, plain) <= FORWARD


@torch._dynamo.config.patch(fail_on_recompile_limit_hit=True)  # of 8
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own tracing
def test_a_compiled_block_takes_packs_of_any_lengths() -> None:
    """A budget of tokens is divided otherwise in every pack: no pack is a graph of its own."""
    network, values = build(), batch()
    text = values["encoder_hidden_states"]
    torch.compiler.reset()
    for block in network.blocks:
        block.compile(backend="eager")
    for clips in range(2, 14):
        sizes = [(1, 2, 2 * (30 - clips)), *[(1, 2, 2)] * (clips - 1)]
        parts = [
            Tokens.from_latents(torch.randn(1, 5, *size), torch.ones(1), (1, 2, 2))
            for size in sizes
        ]
        rows = text[:1].expand(clips, -1, -1).flatten(0, 1)
        network.forward_tokens(pack(parts), rows, Segments.even(clips, text.shape[1]))


def test_a_fresh_adapter_has_no_effect_and_a_filled_one_has() -> None:
    network, values = build(), batch()
    plain = network(**values).sample
    adapted = copy.deepcopy(network)
    adapted.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    assert torch.equal(adapted(**values).sample, plain)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    assert error(adapted(**values).sample, plain) > 1e-3
    assert torch.equal(adapted(**values, attention_kwargs={"scale": 0.0}).sample, plain)


def test_refuses_texts_that_are_not_the_clips() -> None:
    network, (first, *_) = build(), ragged()
    tokens = Tokens.from_latents(first["hidden_states"], first["timestep"], (1, 2, 2))
    with pytest.raises(ValueError, match="1 query segments, but 2 key segments"):
        network.forward_tokens(tokens, torch.randn(7, 24), Segments((3, 4)))
    with pytest.raises(ValueError, match="text has 7 rows, but its segments sum to 8"):
        network.forward_tokens(tokens, torch.randn(7, 24), Segments((8,)))


def test_what_a_row_learns_from_its_tokens_is_summed_in_their_order() -> None:
    """To the last bit, however many threads there are and whichever comes first."""
    g = torch.Generator().manual_seed(0)
    index = torch.randint(7, (1280,), generator=g).sort().values
    gradient = torch.randn(1, len(index), 64, generator=g)
    row = torch.randn(7, 64, requires_grad=True, generator=g)
    spread(row, index).backward(gradient)
    expected = torch.zeros(7, 64)
    for number, learned in zip(index.tolist(), gradient[0], strict=True):
        expected[number] += learned
    assert row.grad is not None and torch.equal(row.grad, expected)
