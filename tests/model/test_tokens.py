"""Patches, positions, timestep rows and packing: exact bookkeeping, so exact equality."""

import pytest
import torch
import torch.nn.functional as F

from model.tokens import Segments, Tokens, grid, pack, patchify, unpatchify


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 1, 3), (1, 1, 1)])
def test_patches_are_what_the_strided_convolution_reads(patch: tuple[int, int, int]) -> None:
    """A linear map of a patch in (C, pt, ph, pw) order is the convolution; fp32 rounding."""
    x, weight = torch.randn(2, 5, 4, 7, 9), torch.randn(8, 5, *patch)
    want = F.conv3d(x, weight, stride=patch).flatten(2).transpose(1, 2).flatten(0, 1)
    assert torch.allclose(patchify(x, patch) @ weight.flatten(1).T, want, atol=1e-4)


@pytest.mark.parametrize("patch", [(1, 2, 2), (2, 1, 3), (1, 1, 1)])
def test_unpatchify_undoes_patchify(patch: tuple[int, int, int]) -> None:
    """Exactly, once channels go from first (as read) to last (as the head writes)."""
    counts = (3, 2, 5)
    size = tuple(n * p for n, p in zip(counts, patch, strict=True))
    x = torch.randn(2, 7, *size)
    written = patchify(x, patch).unflatten(1, (7, -1)).transpose(1, 2).flatten(1)
    assert torch.equal(unpatchify(written, counts, patch), x)


def test_grid_counts_x_fastest() -> None:
    assert grid((2, 1, 2)).tolist() == [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]]


def test_one_timestep_a_clip_needs_no_index() -> None:
    tokens = Tokens.from_latents(
        torch.randn(3, 4, 2, 4, 6), torch.tensor([9.0, 1.0, 9.0]), (1, 2, 2)
    )
    assert tokens.timestep_index is None and tokens.timesteps.tolist() == [9, 1, 9]
    assert tokens.segments.lengths == (12, 12, 12)
    assert torch.equal(tokens.coords[12:24], grid((2, 2, 3)))


def test_timesteps_per_token_become_rows_and_an_index() -> None:
    timestep = torch.tensor([5.0, 0.0, 700.0])[torch.randint(3, (2, 12))]
    tokens = Tokens.from_latents(torch.randn(2, 4, 2, 4, 6), timestep, (1, 2, 2))
    assert tokens.timesteps.tolist() == [0, 5, 700] and tokens.timestep_index is not None
    assert torch.equal(tokens.timesteps[tokens.timestep_index], timestep.flatten())


def test_equal_timesteps_per_token_are_one_row() -> None:
    tokens = Tokens.from_latents(torch.randn(2, 4, 2, 4, 6), torch.full((2, 12), 3.0), (1, 2, 2))
    assert tokens.timesteps.tolist() == [3] and tokens.timestep_index is None


def clip(frames: int, timestep: torch.Tensor, **columns: torch.Tensor) -> Tokens:
    n = 4 * frames
    fields = dict(patches=torch.randn(n, 6), coords=grid((frames, 2, 2)), timesteps=timestep)
    return Tokens(**fields, segments=Segments((n,)), **columns)


def test_pack_keeps_every_column() -> None:
    index = torch.tensor([0, 1, 1, 0, 1, 1, 0, 0])
    parts = [
        clip(1, torch.tensor([3.0])),
        clip(2, torch.tensor([0.0, 8.0]), timestep_index=index, loss_weight=torch.rand(8)),
        clip(3, torch.tensor([5.0, 6.0, 7.0])),
    ]
    tokens = pack(parts)
    assert tokens.segments.lengths == (4, 8, 12)
    assert torch.equal(tokens.patches, torch.cat([part.patches for part in parts]))
    assert torch.equal(tokens.coords[4:12], parts[1].coords)
    want = [3.0] * 4 + [0, 8, 8, 0, 8, 8, 0, 0] + [5] * 4 + [6] * 4 + [7] * 4
    assert tokens.timestep_index is not None and tokens.loss_weight is not None
    assert tokens.timesteps[tokens.timestep_index].tolist() == want
    assert tokens.loss_weight[:4].tolist() == [1] * 4
    assert torch.equal(tokens.loss_weight[4:12], parts[1].loss_weight)


def test_packed_runs_of_one_length_need_no_index() -> None:
    tokens = pack([clip(1, torch.tensor([3.0])), clip(2, torch.tensor([5.0, 6.0]))])
    assert tokens.timestep_index is None and tokens.timesteps.tolist() == [3, 5, 6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(segments=Segments((5,))), "patches has 8 rows, but its segments sum to 5"),
        (dict(coords=torch.zeros(7, 3)), "coords has 7 rows, but patches has 8"),
        (dict(loss_weight=torch.ones(9)), "loss_weight has 9 rows, but patches has 8"),
        (dict(timesteps=torch.ones(3)), "8 tokens do not fall into 3 runs"),
    ],
)
def test_refuses_columns_that_do_not_fit(change: dict[str, object], message: str) -> None:
    columns = dict(
        patches=torch.zeros(8, 6),
        coords=torch.zeros(8, 3),
        timesteps=torch.ones(2),
        segments=Segments((3, 5)),
    )
    with pytest.raises(ValueError, match=message):
        Tokens(**columns | change)


def test_refuses_a_negative_length() -> None:
    with pytest.raises(ValueError, match=r"\(3, -1\)"):
        Segments((3, -1))
