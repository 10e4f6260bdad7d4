"""Batches: what the network sees of packed samples, and that packing changes no loss.

Packing the same sums another way moves a forward pass by some 3e-7 in relative norm and gradients
by 1e-6, fp32 rounding; the bars are 2e-6 and 1e-5.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.tokens import Segments, patchify
from model.transformer import SpacetimeTransformer
from training.batch import Batch, Batches
from training.config import TrainConfig, load_config
from training.data.cache import LatentDataset
from training.packing import Pack, Packer, PackStream

ROOT = Path(__file__).parents[2]
PATCH = (1, 2, 2)
SIZES = [(5, 4, 6), (3, 8, 4), (9, 2, 2), (2, 4, 4), (1, 6, 6)]
"""T, h and w of the clips: odd, not square, one a single frame."""


@pytest.fixture(scope="module")
def dataset() -> LatentDataset:
    rng = np.random.default_rng(0)
    sizes = np.array([(t, 3, h, w) for t, h, w in SIZES])
    count = int(sizes.prod(axis=1).sum())
    bits = torch.from_numpy(rng.standard_normal((2, count), np.float32)).bfloat16()
    clips, stills = bits.view(torch.int16).numpy()
    offsets = np.concatenate([[0], sizes.prod(axis=1).cumsum()[:-1]])
    return LatentDataset(clips, stills, offsets, sizes, [f"clip {n}" for n in range(len(SIZES))])


def configured(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, ROOT / "configs" / "debug.yaml", list(overrides))


CONDITIONED = (
    "network.reference_tokens=true", "batch.image_share=0.2", "flow.independent_share=0.3",
    "flow.rising_share=0.3",
)  # fmt: skip


def pack_of(batches: Batches, positions: range) -> Pack:
    return Pack(tuple(positions), tuple(batches.length(n) for n in positions))


def network() -> SpacetimeTransformer:
    torch.manual_seed(0)
    built = SpacetimeTransformer(
        num_attention_heads=2, attention_head_dim=12, num_layers=2, ffn_dim=20, freq_dim=16,
        text_dim=8, in_channels=3, out_channels=3, reference_tokens=True,
    )  # fmt: skip
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return built


def loss_of(net: SpacetimeTransformer, batch: Batch, total: Tensor) -> Tensor:
    torch.manual_seed(1)
    text = torch.randn(len(SIZES) + 1, 4, 8)[batch.rows].flatten(0, 1)
    lengths = (4,) * len(batch.rows)
    lengths += (0,) * (len(batch.tokens.segments) - len(batch.rows))
    predicted = net.forward_tokens(batch.tokens, text, Segments(lengths))
    error = (predicted - batch.target).square().mean(dim=1)
    assert batch.tokens.loss_weight is not None
    return (batch.tokens.loss_weight * error).sum() / total


def gradients(net: SpacetimeTransformer) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    return found


@pytest.mark.parametrize("padding", [0, 37])
def test_a_packed_loss_is_that_of_its_samples_one_by_one(
    dataset: LatentDataset, padding: int
) -> None:
    """Sizes, conditions, references and timesteps a frame, and padding that weighs nothing."""
    batches, net = Batches(configured(*CONDITIONED), dataset, PATCH), network()
    positions = range(20, 50)
    packed = pack_of(batches, positions)
    whole = batches.build(packed, packed.tokens + padding)
    loss = loss_of(net, whole, whole.weight)
    loss.backward()
    packed_gradients = gradients(net)
    singles = [batches.build(pack_of(batches, range(n, n + 1))) for n in positions]
    total = torch.stack([single.weight for single in singles]).sum()
    parts = torch.stack([loss_of(net, single, total) for single in singles])
    parts.sum().backward()
    assert abs(float(loss.detach() / parts.detach().sum()) - 1) <= 2e-6
    for name, gradient in gradients(net).items():
        difference = (packed_gradients[name] - gradient).norm() / gradient.norm()
        assert difference <= 1e-5, name


def test_the_loss_weighs_samples_by_the_root_of_their_noisy_tokens(dataset: LatentDataset) -> None:
    """The mean over a sample's noisy tokens, then √n between samples: written out for errors 1."""
    batches = Batches(configured(*CONDITIONED), dataset, PATCH)
    batch = batches.build(pack_of(batches, range(40)))
    assert batch.tokens.loss_weight is not None
    for weights in batch.tokens.loss_weight.split(batch.tokens.segments.lengths):
        noisy = int((weights > 0).sum())
        torch.testing.assert_close(weights.sum(), torch.tensor(noisy**0.5))
        assert len(weights[weights > 0].unique()) == 1


def test_what_is_given_is_clean_and_its_target_has_no_say(dataset: LatentDataset) -> None:
    """Tokens at timestep 0 are the clip's own, bit for bit; a target of weight 0 has gradient 0."""
    batches, net = Batches(configured(*CONDITIONED), dataset, PATCH), network()
    seen = 0
    for position in range(100):
        batch = batches.build(pack_of(batches, range(position, position + 1)))
        tokens = batch.tokens
        batch.target.requires_grad_(True)
        loss_of(net, batch, batch.weight).backward()
        net.zero_grad()
        assert tokens.loss_weight is not None and batch.target.grad is not None
        given = tokens.loss_weight == 0
        assert torch.equal(batch.target.grad[given], torch.zeros_like(batch.target[given]))
        assert (batch.target.grad[~given] != 0).any(dim=1).all()
        if tokens.reference is not None or not given.any():
            continue
        index = tokens.timestep_index
        assert index is not None
        exact = given & (tokens.timesteps[index] == 0)
        if batches.length(position) == len(tokens.coords) and exact.any():
            sample = batches._sample(position)
            if sample.image:
                continue
            clean = patchify(dataset.latents(sample.clip)[None], PATCH)
            assert torch.equal(tokens.patches[exact], clean[exact])
            seen += 1
    assert seen > 5


def test_references_lie_where_their_frames_are_and_say_nothing_else(
    dataset: LatentDataset,
) -> None:
    """A reference's τ is its pixel frame's, its latent a still's and not a clip's."""
    batches = Batches(configured(*CONDITIONED), dataset, PATCH)
    seen = 0
    for position in range(300):
        tokens = batches.build(pack_of(batches, range(position, position + 1))).tokens
        if tokens.reference is None:
            continue
        sample, shown = batches._sample(position), tokens.reference
        frames = batches._condition(sample).references
        want = [0.0 if k == 0 else k + 1.5 / 4 for k in frames]
        assert tokens.coords[shown, 0].unique().tolist() == want
        index = tokens.timestep_index
        assert index is not None
        if float(tokens.timesteps[index][shown].max()) == 0:
            stills = patchify(dataset.still_latents(sample.clip, frames)[None], PATCH)
            assert torch.equal(tokens.patches[shown], stills)
            seen += 1
    assert seen > 5


def test_a_batch_is_a_function_of_seed_and_positions(dataset: LatentDataset) -> None:
    batches = Batches(configured(*CONDITIONED), dataset, PATCH)
    torch.manual_seed(3)
    one = batches.build(pack_of(batches, range(7, 12)))
    two = Batches(configured(*CONDITIONED), dataset, PATCH).build(pack_of(batches, range(7, 12)))
    other = Batches(configured(*CONDITIONED, "seed=1"), dataset, PATCH)
    assert torch.equal(one.tokens.patches, two.tokens.patches)
    assert torch.equal(one.target, two.target) and torch.equal(one.rows, two.rows)
    assert other.length(7) != batches.length(7) or not torch.equal(
        other.build(pack_of(other, range(7, 8))).target, two.target[: other.length(7)]
    )


def held(stream: PackStream) -> list[int]:
    """The positions of all samples that a stream holds."""
    state = stream.state_dict()
    packs = [ids for _, ids, _ in state["packer"]["open"]]
    packs += [ids for dealt in [state["waiting"], *state["rounds"]] for ids, _ in dealt]
    return [n for ids in packs for n in ids]


def test_a_stream_goes_on_where_it_was_left_and_loses_nothing(dataset: LatentDataset) -> None:
    batches = Batches(configured(*CONDITIONED), dataset, PATCH)

    def stream() -> PackStream:
        packer = Packer(120, batches.smallest, open_packs=4)
        return PackStream(batches.length, packer, ranks=2, window=3, width=24, seed=5)

    whole = stream()
    expected = [next(whole) for _ in range(20)]
    first = stream()
    for n in range(7):
        assert next(first) == expected[n]
    second = stream()
    second.load_state_dict(first.state_dict())
    assert [next(second) for _ in range(13)] == expected[7:]
    positions = [n for packs in expected for pack in packs for n in pack.ids]
    assert len(set(positions)) == len(positions)
    waiting = held(second)
    assert sorted(positions + waiting) == list(range(second.cursor))


@pytest.mark.parametrize(
    ("tokens", "ranks", "told"),
    [(120, 3, ()), (112, 2, ()), (400, 2, ()), (120, 2, ("seed=4",)),
     (120, 2, ("batch.image_share=0.9",))],
)  # fmt: skip
def test_a_stream_goes_on_in_another_form_with_the_samples_it_holds(
    tokens: int, ranks: int, told: tuple[str, ...], dataset: LatentDataset
) -> None:
    """More packs a step, another budget, samples of other lengths: packs are right for these."""
    batches, other = (
        Batches(configured(*CONDITIONED, *more), dataset, PATCH) for more in ((), told)
    )

    def stream(form: Batches, tokens: int, ranks: int) -> PackStream:
        packer = Packer(tokens, form.smallest, open_packs=4)
        return PackStream(form.length, packer, ranks=ranks, window=3, width=24, seed=5)

    first = stream(batches, 120, 2)
    taken = [n for _ in range(7) for pack in next(first) for n in pack.ids]
    second = stream(other, tokens, ranks)
    second.load_state_dict(first.state_dict())
    assert sorted(held(second)) == sorted(held(first)) and second.cursor == first.cursor
    for packs in (next(second) for _ in range(20)):
        assert len(packs) == ranks
        for pack in packs:
            assert pack.lengths == tuple(map(other.length, pack.ids)) and pack.tokens <= tokens
            taken += pack.ids
    assert sorted(taken + held(second)) == list(range(second.cursor))
