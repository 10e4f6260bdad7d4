"""A request that the device has no memory for becomes the nearest that it has memory for, or is
refused with that.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

from serving.errors import ApiError
from serving.memory import Shape, fits, gigabytes, nearest, peak
from serving.resolved import Description, Resolved, enlargement, parse_size, shortest_decimal

SHAPE = "size", "num_frames"
"""What of a request may be lowered."""


def fit(
    clips: Sequence[Resolved],
    model: Description,
    free: Collection[str],
    lengths: Sequence[int],
    shots: bool = False,
) -> list[Resolved]:
    """Clips of one size and file, as they are if the device has memory for each of them.

    Else those of `SHAPE` that are `free` are lowered to the nearest that it has memory for, and
    `warnings` say so.

    Args:
        lengths: in frames, that a clip may have.
        shots: whether the clips are shots of a request.

    Raises:
        ApiError: if that is not enough; it names all that has to be lowered, and to what.
    """
    memory = model.get("memory")
    shapes = [Shape(c.width, c.height, c.num_frames, c.references, c.lora) for c in clips]
    if memory is None or all(fits(memory, shape) for shape in shapes):
        return list(clips)
    largest = max(shapes, key=lambda shape: peak(memory, shape))
    where = f"shots[{shapes.index(largest)}]: " if shots else ""
    beside = f" with the LoRA {largest.lora}" if largest.lora else ""
    problem = (
        f"{where}{largest.num_frames} frames of {largest.width}x{largest.height}{beside} take "
        f"{gigabytes(peak(memory, largest))} of memory, and {model['name']} has "
        f"{gigabytes(memory['limit'] or 0)}"
    )
    sizes = [parse_size(size) for size in model["sizes"]]
    within = nearest(memory, shapes, sizes, model["size_multiple"], lengths)
    if not within:
        message = f"{problem}; nothing that it makes fits."
        raise ApiError(message, param="size", code="insufficient_memory")
    fps = clips[0].fps
    for other in within:
        if _lowered(shapes, other) <= set(free):
            warning = f"memory: {problem}; lowered {_changes(shapes, other, fps, shots)}."
            pairs = zip(clips, other, strict=True)
            return [_reshaped(clip, shape, warning) for clip, shape in pairs]
    advice = ", or ".join(_changes(shapes, other, fps, shots) for other in within)
    length = "shots" if shots else "num_frames"
    param = length if "num_frames" in _lowered(shapes, within[0]) else "size"
    raise ApiError(f"{problem}; lower {advice}.", param=param, code="insufficient_memory")


def room(model: Description) -> float:
    """How many times over the device has what the model takes by default; inf if not known."""
    memory = model.get("memory")
    if memory is None or memory["limit"] is None:
        return math.inf
    usual = Shape(*parse_size(model["sizes"][0]), model["num_frames"][0])
    return memory["limit"] / peak(memory, usual)


def _lowered(shapes: Sequence[Shape], others: Sequence[Shape]) -> set[str]:
    pairs = list(zip(shapes, others, strict=True))
    lowered = {"size"} if any(one.area != other.area for one, other in pairs) else set()
    return lowered | (
        {"num_frames"} if any(one.num_frames != other.num_frames for one, other in pairs) else set()
    )


def _changes(shapes: Sequence[Shape], others: Sequence[Shape], fps: int, shots: bool) -> str:
    changes = []
    for index, (one, other) in enumerate(zip(shapes, others, strict=True)):
        seconds = shortest_decimal(other.num_frames / fps)
        if shots and other.num_frames != one.num_frames:
            changes.append(f"shots[{index}].seconds to {seconds}")
        elif other.num_frames != one.num_frames:
            changes.append(f"num_frames to {other.num_frames} (seconds to {seconds})")
    if others[0].area != shapes[0].area:
        changes.append(f"size to {others[0].width}x{others[0].height}")
    return " and ".join(changes)


def _reshaped(clip: Resolved, shape: Shape, warning: str) -> Resolved:
    size = (shape.width, shape.height)
    same = size == (clip.width, clip.height)
    return replace(
        clip,
        width=shape.width,
        height=shape.height,
        scale=clip.scale if same else enlargement(*size),
        num_frames=shape.num_frames,
        references=shape.references,
        warnings=[*clip.warnings, warning],
    )
