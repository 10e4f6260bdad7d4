"""Whether a request fits the memory of the device, known before it is queued.

Workers publish what a checkpoint needs as a few coefficients (`model.memory`), so that the API can
tell without torch, and without a device.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

GB = 1e9


class Memory(TypedDict):
    """Peak bytes on the device by stage: `model.memory.Memory` as JSON.

    A stage's coefficients (c0, c1, c2) say c0 + c1·area + c2·area·latent frames, area in pixels.
    limit is what the device has for it; None if that is not known. batched is the area times latent
    frames up to which guidance runs both of its passes as one batch. adapted has the coefficients
    of the stage denoise with a LoRA, by its name.
    """

    stages: dict[str, Sequence[float]]
    frames_per_latent: int
    limit: int | None
    batched: NotRequired[int]
    adapted: NotRequired[dict[str, Sequence[float]]]


@dataclass(frozen=True)
class Shape:
    """What of a request decides on its memory: sides in pixels, as rendered, and frames.

    references are frames that are shown beside the clip, lora the name of the adapter in use.
    """

    width: int
    height: int
    num_frames: int
    references: int = 0
    lora: str | None = None

    @property
    def area(self) -> int:
        """Pixels of a frame."""
        return self.width * self.height


def peak(memory: Memory, shape: Shape) -> float:
    """The most bytes that a request of this shape takes at any time."""
    latent_frames = _latent_frames(memory, shape.num_frames)
    seen = latent_frames + shape.references
    if not shape.references and shape.area * latent_frames <= memory.get("batched", 0):
        seen = 2 * latent_frames
    stages, adapted = memory["stages"], memory.get("adapted", {})
    if shape.lora in adapted:
        stages = stages | {"denoise": adapted[shape.lora]}
    return max(
        c0 + c1 * shape.area + c2 * shape.area * (seen if stage == "denoise" else latent_frames)
        for stage, (c0, c1, c2) in stages.items()
    )


def fits(memory: Memory, shape: Shape) -> bool:
    """Whether there is memory enough for a request of this shape."""
    return memory["limit"] is None or peak(memory, shape) <= memory["limit"]


def quarter(memory: Memory, num_frames: int) -> int:
    """The latent frames that are shown beside a clip of that length, at most."""
    return math.ceil(_latent_frames(memory, num_frames) / 4)


def _latent_frames(memory: Memory, num_frames: int) -> int:
    return (num_frames - 1) // memory["frames_per_latent"] + 1


def _cut(memory: Memory, shape: Shape, num_frames: int) -> Shape:
    beside = min(shape.references, quarter(memory, num_frames))
    return replace(shape, num_frames=num_frames, references=beside)


def shorter(memory: Memory, shape: Shape, lengths: Iterable[int]) -> Shape | None:
    """The longest of `lengths` that fits at the same size."""
    candidates = (_cut(memory, shape, n) for n in lengths if n < shape.num_frames)
    fitting = [candidate for candidate in candidates if fits(memory, candidate)]
    return max(fitting, key=lambda shape: shape.num_frames, default=None)


def smaller(
    memory: Memory,
    shape: Shape,
    sizes: Iterable[tuple[int, int]],
    multiple: int | None,
    beside: Sequence[Shape] = (),
) -> Shape | None:
    """The largest size that fits at the same length: one of `sizes`, or any of that multiple.

    Multiples keep the aspect, up to their grid. beside: shapes of the same size, which have to fit
    at that one, too.
    """
    candidates = list(sizes)
    if multiple:
        columns, rows = shape.width / multiple, shape.height // multiple
        candidates += [
            (max(1, round(columns * row / rows)) * multiple, row * multiple)
            for row in range(1, rows)
        ]
    fitting = [
        replace(shape, width=width, height=height)
        for width, height in candidates
        if width * height < shape.area
        and all(fits(memory, replace(s, width=width, height=height)) for s in (shape, *beside))
    ]
    return max(fitting, key=lambda shape: shape.area, default=None)


def nearest(
    memory: Memory,
    shapes: Sequence[Shape],
    sizes: Sequence[tuple[int, int]],
    multiple: int | None,
    lengths: Sequence[int],
) -> list[list[Shape]]:
    """What fits and is nearest to `shapes`, which have one size.

    All of them shorter, all smaller, or, where neither is enough, both; in each a shape for each.
    """

    def at_smaller_size(shapes: Sequence[Shape]) -> list[Shape] | None:
        found = smaller(memory, shapes[0], sizes, multiple, shapes[1:])
        if found is None:
            return None
        return [replace(s, width=found.width, height=found.height) for s in shapes]

    brief = [s if fits(memory, s) else shorter(memory, s, lengths) for s in shapes]
    found = [[s for s in brief if s], at_smaller_size(shapes)]
    near = [others for others in found if others and len(others) == len(shapes)]
    if near:
        return near
    for most in sorted(lengths, reverse=True):
        if most < max(shape.num_frames for shape in shapes):
            cut = [_cut(memory, s, min(s.num_frames, most)) for s in shapes]
            if both := at_smaller_size(cut):
                return [both]
    return []


def gigabytes(count: float) -> str:
    """Bytes in words: "11.9 GB"."""
    return f"{count / GB:.1f} GB"
