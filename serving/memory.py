"""Whether a request fits the memory of the device, known before it is queued.

Workers publish what a checkpoint needs as a few coefficients (`model.memory`), so that the API can
tell without torch, and without a device.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NotRequired, TypedDict

GB = 1e9


class Memory(TypedDict):
    """Peak bytes on the device by stage: `model.memory.Memory` as JSON.

    A stage's coefficients (c0, c1, c2) say c0 + c1·area + c2·area·latent frames, area in pixels.
    limit is what the device has for it; None if that is not known. batched is the area times latent
    frames up to which guidance runs both of its passes as one batch.
    """

    stages: dict[str, Sequence[float]]
    frames_per_latent: int
    limit: int | None
    batched: NotRequired[int]


@dataclass(frozen=True)
class Shape:
    """What of a request decides on its memory: sides in pixels, as rendered, and frames.

    references are frames that are shown beside the clip.
    """

    width: int
    height: int
    num_frames: int
    references: int = 0

    @property
    def area(self) -> int:
        """Pixels of a frame."""
        return self.width * self.height


def peak(memory: Memory, shape: Shape) -> float:
    """The most bytes that a request of this shape takes at any time."""
    latent_frames = (shape.num_frames - 1) // memory["frames_per_latent"] + 1
    seen = latent_frames + shape.references
    if not shape.references and shape.area * latent_frames <= memory.get("batched", 0):
        seen = 2 * latent_frames
    return max(
        c0 + c1 * shape.area + c2 * shape.area * (seen if stage == "denoise" else latent_frames)
        for stage, (c0, c1, c2) in memory["stages"].items()
    )


def fits(memory: Memory, shape: Shape) -> bool:
    """Whether there is memory enough for a request of this shape."""
    return memory["limit"] is None or peak(memory, shape) <= memory["limit"]


def shorter(memory: Memory, shape: Shape, lengths: Iterable[int]) -> Shape | None:
    """The longest of `lengths` that fits at the same size."""
    candidates = (replace(shape, num_frames=n) for n in lengths if n < shape.num_frames)
    fitting = [candidate for candidate in candidates if fits(memory, candidate)]
    return max(fitting, key=lambda shape: shape.num_frames, default=None)


def smaller(
    memory: Memory, shape: Shape, sizes: Iterable[tuple[int, int]], multiple: int | None
) -> Shape | None:
    """The largest size that fits at the same length: one of `sizes`, or any of that multiple.

    Multiples keep the aspect, up to their grid.
    """
    candidates = list(sizes)
    if multiple:
        columns, rows = shape.width / multiple, shape.height // multiple
        candidates += [
            (max(1, round(columns * row / rows)) * multiple, row * multiple)
            for row in range(1, rows)
        ]
    shapes = (replace(shape, width=width, height=height) for width, height in candidates)
    fitting = [s for s in shapes if s.area < shape.area and fits(memory, s)]
    return max(fitting, key=lambda shape: shape.area, default=None)


def gigabytes(count: float) -> str:
    """Bytes in words: "11.9 GB"."""
    return f"{count / GB:.1f} GB"
