"""Rotary position embedding over three axes, from explicit positions.

RoFormer (Su et al., 2021, arXiv:2104.09864), section 3.2.2, as Wan splits it over (τ, y, x).
"""

import torch
from torch import Tensor

THETA = 10_000.0


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """The channels of a head that turn with τ, y and x; 128 gives (44, 42, 42).

    Raises:
        ValueError: `head_dim` is odd, so that its channels do not pair up.
    """
    if head_dim % 2:
        raise ValueError(f"attention_head_dim is {head_dim}; rotary embedding needs an even number")
    side = 2 * (head_dim // 6)
    return head_dim - 2 * side, side, side


def rotary_table(coords: Tensor, head_dim: int) -> Tensor:
    """cos and sin of every token's angles, `(N, head_dim/2, 2)` fp32.

    Angles are taken in float64: at τ in the hundreds, fp32 would lose three digits of them.

    Args:
        coords: positions (τ, y, x), `(N, 3)`; fractions are allowed.
    """
    precision = torch.float32 if coords.device.type == "mps" else torch.float64
    angles = []
    for position, dim in zip(coords.to(precision).unbind(1), axis_dims(head_dim), strict=True):
        exponent = torch.arange(0, dim, 2, dtype=precision, device=coords.device) / max(dim, 1)
        angles.append(torch.outer(position, 1.0 / THETA**exponent))
    angle = torch.cat(angles, dim=1)
    return torch.stack((angle.cos(), angle.sin()), dim=-1).float()


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn neighbouring channel pairs (0, 1), (2, 3), ... of every head by the token's angles.

    Args:
        x: queries or keys, `(N, heads, head_dim)` fp32.
        table: from `rotary_table`, `(N, head_dim/2, 2)`.
    """
    pairs = x.unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # inductor fuses real arithmetic, but not complex
        (a, b), (cos, sin) = pairs.unbind(-1), table.unsqueeze(1).unbind(-1)
        return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    # In eager mode one complex product is ten times as fast on a CPU as strided real ones.
    turn = torch.view_as_complex(table).unsqueeze(1)
    return torch.view_as_real(torch.view_as_complex(pairs) * turn).flatten(-2)


def rotate_halves(x: Tensor, table: Tensor) -> Tensor:
    """As `rotate`, but channel i of a head's first half turns with channel i of its second."""
    (a, b), (cos, sin) = x.chunk(2, dim=-1), table.unsqueeze(1).unbind(-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)
