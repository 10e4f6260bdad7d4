"""The benchmark of a training step: both sides compute the same, and only clips are counted."""

from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks import train_step
from benchmarks.train_step import CASES, draw, measure, networks, packed, padded

TINY = {"heads": 2, "head_dim": 12, "layers": 2, "ffn_dim": 32, "channels": 3, "text_dim": 8,
        "text": 5}  # fmt: skip
CPU = torch.device("cpu")


def told(**options: str) -> dict[str, Any]:
    return {"device": "cpu", "network": TINY, "checkpointing": "none", "precision": "no"} | options


@pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")  # diffusers' norms in bf16
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_equal_shapes_both_sides_have_the_same_loss(device: str) -> None:
    """By the ways of each device's cases; fp32 rounding is 1e-6, bf16's 2^-8 a product."""
    case = yaml.safe_load(CASES.read_text())[device]
    told_of = {name: case[name] for name in ("checkpointing", "precision")}
    row = measure(told(**told_of), [np.array([[2, 3, 2]] * 3)] * 2, repeats=1, compiled=False)
    assert row["loss_apart"] <= (1e-5 if case["precision"] == "no" else 2**-7)
    assert (row["clips"], row["tokens"], row["attention"]) == (6, 72, "sdpa, text sdpa")
    assert row["ratio"] == pytest.approx(
        row["ours_tokens_per_s"] / row["diffusers_tokens_per_s"], rel=0.01
    )


def test_clips_of_one_size_that_are_padded_nowhere_have_the_gradients_of_packed_ones() -> None:
    """1e-4 of a gradient's norm, fp32 sums in another order."""
    both = networks(told(), compiled=False, device=CPU)
    clips = draw(np.array([[2, 3, 2]] * 3), TINY, 0, CPU)
    packed(both["ours"], clips)().backward()
    padded(both["diffusers"], clips)().backward()
    others = dict(both["diffusers"].named_parameters())
    for name, parameter in both["ours"].named_parameters():
        other = others[name].grad
        assert parameter.grad is not None and other is not None, name
        assert (parameter.grad - other).norm() <= 1e-4 * other.norm() + 1e-7, name


@pytest.mark.filterwarnings("ignore:Mismatch dtype:UserWarning")  # diffusers' norms in bf16
@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_attention_told_is_that_of_the_values_it_gets(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device's kernels are chosen by its values, for a backward pass; as a CPU takes one way for
    all, what is asked is looked at."""
    asked: list[tuple[Any, ...]] = []

    def backend(q: Any, kv: Any, v: torch.Tensor, gradients: bool) -> str:
        asked.append((v.dtype, v.device.type, v.shape[1:], gradients))
        return "a kernel"

    monkeypatch.setattr(train_step, "backend", backend)
    row = measure(told(precision=precision), [np.array([[1, 2, 2]])], repeats=1, compiled=False)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    assert row["attention"] == "a kernel, text a kernel"
    assert asked == [(dtype, "cpu", (2, 12), True)] * 2


def test_padding_is_neither_counted_nor_learned_from() -> None:
    """Of clips of several sizes, tokens are the clips'; targets in the padding do not matter."""
    table = np.array([[1, 2, 3], [3, 2, 1], [2, 4, 2]])
    row = measure(told(), [table], repeats=1, compiled=False)
    assert row["tokens"] == 6 + 6 + 16 and row["attention"].startswith("sdpa per run")
    both = networks(told(), compiled=False, device=CPU)
    clips = draw(table, TINY, 0, CPU)
    assert clips.lengths == [6, 6, 16]
    loss = padded(both["diffusers"], clips)()
    assert torch.isfinite(loss) and loss > 0
