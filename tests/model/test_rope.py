"""Rotary tables and the turn itself: against diffusers, and against what RoPE is for."""

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

from model.rope import axis_dims, rotary_table, rotate
from model.tokens import grid


@pytest.mark.parametrize("head_dim", [2, 4, 6, 20, 48, 64, 128])
def test_table_is_diffusers_table(head_dim: int) -> None:
    """Both take angles in float64 and round once to fp32: equal bit for bit."""
    cos, sin = WanRotaryPosEmbed(head_dim, (1, 2, 2), 1024)(torch.empty(1, 4, 7, 10, 6))
    table = rotary_table(grid((7, 5, 3)), head_dim)
    assert torch.equal(table[..., 0], cos[0, :, 0, 0::2])
    assert torch.equal(table[..., 1], sin[0, :, 0, 1::2])


def test_axis_dims_of_wan() -> None:
    assert axis_dims(128) == (44, 42, 42)


def test_table_holds_far_and_fractional_positions_to_fp32() -> None:
    """cos and sin are off by their rounding to fp32 alone, 2^-25 for numbers up to 1.

    The positions are exact in fp32, most frequencies of Wan's head are not: angles of 600 rad taken
    in fp32 would be off by 3e-5.
    """
    coords = (900.375, 511.5, 1023.25)
    table = rotary_table(torch.tensor([coords]), 128)
    angle = np.concatenate(
        [
            position / np.float64(10_000) ** (np.arange(0, dim, 2) / dim)
            for position, dim in zip(coords, (44, 42, 42), strict=True)
        ]
    )
    exact = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    assert np.abs(table[0].double().numpy() - exact).max() < 3.1e-8


def test_rotate_turns_neighbouring_pairs() -> None:
    """(1, 0) at angle a becomes (cos a, sin a); fp32 rounding."""
    x = torch.tensor([1.0, 0.0]).repeat(5, 3, 10)
    table = rotary_table(torch.rand(5, 3) * 20, 20)
    out = rotate(x, table).unflatten(-1, (10, 2))
    assert torch.equal(out, table[:, None].expand_as(out))


def test_scores_depend_on_differences_of_position_alone() -> None:
    """q·k is unchanged when all positions move together; 1e-5 is fp32 rounding of 20 products."""
    torch.manual_seed(0)
    q, k, coords = torch.randn(6, 2, 20), torch.randn(6, 2, 20), torch.rand(6, 3) * 9

    def scores(shift: float) -> torch.Tensor:
        table = rotary_table(coords + shift, 20)
        return torch.einsum("nhd,mhd->hnm", rotate(q, table), rotate(k, table))

    assert torch.allclose(scores(0.0), scores(4.5), atol=1e-5)
    assert not torch.allclose(scores(0.0), torch.einsum("nhd,mhd->hnm", q, k), atol=1e-2)


def test_compiled_turn_is_the_eager_one() -> None:
    """The compiler is given real arithmetic instead of complex; one fp32 rounding apart."""
    x, table = torch.randn(5, 3, 20), rotary_table(torch.rand(5, 3) * 20, 20)
    compiled = torch.compile(rotate, backend="eager", fullgraph=True)
    assert torch.allclose(compiled(x, table), rotate(x, table), atol=1e-6)


def test_refuses_channels_that_do_not_pair_up() -> None:
    with pytest.raises(ValueError, match="attention_head_dim is 21"):
        axis_dims(21)
