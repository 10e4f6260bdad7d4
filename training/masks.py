"""Which tokens of a training clip are given to the network instead of noised: one mode a clip.

What it is to give a token, and how what is given is laid out, is in `model.conditions`, since the
sampler lays a request out in the same way.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator

from model.conditions import Layout, Size, little


@dataclass(frozen=True, kw_only=True)
class Condition(Layout):
    """What is given of a clip.

    Attributes:
        mode: its name, for the log.
    """

    mode: str


MODES: dict[str, float] = {
    "text": 0.40, "first": 0.15, "first_last": 0.08, "last": 0.03, "extend": 0.10,
    "extend_back": 0.04, "join": 0.05, "interpolate": 0.06, "inpaint": 0.05, "outpaint": 0.02,
    "blocks": 0.02,
}  # fmt: skip
"""How often each mode is drawn for a clip; a clip too short for its mode has text alone."""
IMAGE_MODES: dict[str, float] = {"text": 0.90, "inpaint": 0.10}


def draw_condition(size: Size, generator: Generator) -> Condition:
    """Draw what is given of a clip of `size` (T, H, W) tokens; at least one token stays noisy."""
    modes = MODES if size[0] > 1 else IMAGE_MODES
    weights = torch.tensor(list(modes.values()), dtype=torch.float64)
    mode = list(modes)[int(torch.multinomial(weights, 1, generator=generator))]
    layout = _DRAW[mode](size, generator)
    if layout is None or bool(layout.clean.all()):
        return nothing(size)
    return Condition(mode=mode, clean=layout.clean, references=layout.references)


def most_references(frames: int) -> int:
    """The most frames that `draw_condition` gives beside a clip of T latent frames.

    A clip that is extended backwards has up to three in four of its frames given (`_extent`).
    """
    return 0 if frames < 2 else max(1, min(3 * frames // 4, frames - 1))


def first_frame(size: Size) -> Condition:
    """The first frame of a clip of more than one."""
    return Condition(mode="first frame", clean=Layout.of(size, prefix=1).clean)


def nothing(size: Size) -> Condition:
    """Text alone."""
    return Condition(mode="text", clean=torch.zeros(size, dtype=torch.bool))


def _text(size: Size, generator: Generator) -> Layout:
    return Layout.of(size)


def _first(size: Size, generator: Generator) -> Layout:
    return Layout.of(size, prefix=1)


def _first_last(size: Size, generator: Generator) -> Layout | None:
    return Layout.of(size, prefix=1, suffix=1) if size[0] > 2 else None


def _last(size: Size, generator: Generator) -> Layout:
    return Layout.of(size, suffix=1)


def _extent(frames: int, generator: Generator) -> int | None:
    """How much of a clip is given when it is extended: half the time little, half up to most."""
    most = little(frames) if _coin(generator) else 3 * frames // 4
    most = min(most, frames - 1)
    return _integer(2, most, generator) if most >= 2 else None


def _extend(size: Size, generator: Generator) -> Layout | None:
    frames = _extent(size[0], generator)
    return None if frames is None else Layout.of(size, prefix=frames)


def _extend_back(size: Size, generator: Generator) -> Layout | None:
    frames = _extent(size[0], generator)
    return None if frames is None else Layout.of(size, suffix=frames)


def _join(size: Size, generator: Generator) -> Layout | None:
    before, after = (_integer(1, little(size[0]), generator) for _ in range(2))
    return Layout.of(size, before, after) if before + after < size[0] else None


def _interpolate(size: Size, generator: Generator) -> Layout | None:
    frames = size[0]
    if frames < 3:
        return None
    if _coin(generator):
        return Layout.of(size, frames=range(0, frames, _integer(2, 8, generator)))
    count = _integer(2, max(2, frames // 4), generator)
    picked = torch.randperm(frames, generator=generator)[:count]
    return Layout.of(size, frames=sorted(picked.tolist()))


def _inpaint(size: Size, generator: Generator) -> Layout:
    """Give all but a box that moves in a straight line."""
    frames, height, width = size
    share = _uniform(0.1, 0.7, generator)
    aspect = math.exp(_uniform(-0.5, 0.5, generator))
    h = min(height, max(1, round(math.sqrt(share * aspect) * height)))
    w = min(width, max(1, round(share * height * width / h)))
    clean = torch.ones(size, dtype=torch.bool)
    starts = torch.rand(2, 2, generator=generator)  # (first and last, y and x) of the corner
    for t in range(frames):
        y, x = torch.lerp(starts[0], starts[1], t / max(1, frames - 1)).tolist()
        top, left = round(y * (height - h)), round(x * (width - w))
        clean[t, top : top + h, left : left + w] = False
    return Layout(clean)


def _outpaint(size: Size, generator: Generator) -> Layout:
    """Give a centred crop."""
    _, height, width = size
    side = _uniform(0.5, 0.9, generator)
    h, w = max(1, round(side * height)), max(1, round(side * width))
    clean = torch.zeros(size, dtype=torch.bool)
    top, left = (height - h) // 2, (width - w) // 2
    clean[:, top : top + h, left : left + w] = True
    return Layout(clean)


def _blocks(size: Size, generator: Generator) -> Layout:
    """Give random blocks of 2x2x2 tokens."""
    share = _uniform(0.1, 0.9, generator)
    coarse = torch.rand([math.ceil(n / 2) for n in size], generator=generator) < share
    for axis in range(3):
        coarse = coarse.repeat_interleave(2, dim=axis)
    frames, height, width = size
    return Layout(coarse[:frames, :height, :width])


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _integer(low: int, high: int, generator: Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _coin(generator: Generator) -> bool:
    return float(torch.rand((), generator=generator)) < 0.5


_DRAW: dict[str, Callable[[Size, Generator], Layout | None]] = {
    "text": _text, "first": _first, "first_last": _first_last, "last": _last, "extend": _extend,
    "extend_back": _extend_back, "join": _join, "interpolate": _interpolate, "inpaint": _inpaint,
    "outpaint": _outpaint, "blocks": _blocks,
}  # fmt: skip
