"""How far one set of clips is from another, by features that no one has to download.

The features are means over random filters of a clip's latents, of their change in time and of the
change of that. They know nothing of meaning, but pictures that are blurred, dull or of the wrong
colours show in the first, and motion that jumps or stands still in the others.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from training.noise import generator

FILTERS = 64


def features(latents: Tensor) -> Tensor:
    """Describe a clip's latents `(C, T, h, w)` by `(3 · 64,)` numbers."""
    channels = len(latents)
    weights = torch.randn(FILTERS, channels, 3, 3, generator=generator("features", channels))
    weights /= (9 * channels) ** 0.5
    frames = latents.float().transpose(0, 1)
    orders = [frames]
    for _ in range(2):
        orders.append(orders[-1].diff(dim=0) if len(orders[-1]) > 1 else orders[-1][:0])
    return torch.cat(
        [
            conv2d(order, weights, padding=1).abs().mean((0, 2, 3))
            if len(order)
            else torch.zeros(FILTERS)
            for order in orders
        ]
    )


def kernel_distance(reference: Tensor, found: Tensor) -> float:
    """The squared maximum mean discrepancy of two sets of features `(N, D)`, unbiased.

    With the cubic kernel of KID (Bińkowski et al., 2018, arXiv:1801.01401, §3), over features that
    the reference has at mean 0 and deviation 1.
    """
    mean, deviation = reference.mean(0), reference.std(0).clamp_min(1e-6)
    x, y = (((some - mean) / deviation).double() for some in (reference, found))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        k, n = kernel(a, a), len(a)
        return (k.sum() - k.trace()) / (n * (n - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


def described(clips: Iterable[Tensor]) -> Tensor:
    """The features of several clips, `(N, D)`."""
    found: Sequence[Tensor] = [features(clip) for clip in clips]
    return torch.stack(list(found))
