"""Several shots, one after the other, as one video."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.pipeline import GenerationRequest, Progress, Sink, Video

Join = Literal["cut", "continue"]


class Maker(Protocol):
    """What makes one video, such as a `VideoPipeline`."""

    def generate(
        self, request: GenerationRequest, *, sink: Sink | None = None
    ) -> Generator[Progress | Video, None, None]:
        """Make one video, as `VideoPipeline.generate`."""


@dataclass(frozen=True)
class Shot:
    """One of them. join: whether it is cut to, or its first frame is the last one before it."""

    prompt: str
    num_frames: int
    join: Join = "cut"


def generate(
    pipeline: Maker, request: GenerationRequest, shots: Sequence[Shot], sink: Sink | None = None
) -> Generator[Progress | Video, None, None]:
    """Make shots in their order, all with what `request` says but its prompt and length.

    Without any, `request` itself.

    Args:
        request: its image, if it has one, is the first frame of the first shot.
        sink: is given the frames of one shot after the other.

    Returns:
        An iterator as of `VideoPipeline.generate`, as if it were one video: its steps are those of
        one shot, each taken when all shots together are as far. Its frames are the sum of theirs.

    Raises:
        RequestError: for a shot that cannot be made; of one that continues, when it is its turn.
    """
    if not shots:
        return pipeline.generate(request, sink=sink)
    return _in_turn(pipeline, request, shots, sink)


def _in_turn(
    pipeline: Maker, request: GenerationRequest, shots: Sequence[Shot], sink: Sink | None
) -> Generator[Progress | Video, None, None]:
    parts: list[NDArray[np.uint8]] = []
    timings: dict[str, float] = {}
    fps, steps = 0, 1
    for number, shot in enumerate(shots):
        first = Image.fromarray(parts[-1][-1]) if shot.join == "continue" and parts else None
        image = request.image if number == 0 else first
        asked = replace(request, prompt=shot.prompt, num_frames=shot.num_frames, image=image)
        for event in pipeline.generate(asked, sink=sink):
            if isinstance(event, Progress):
                steps = event.steps if event.stage == "denoise" else steps
                yield _of_all(event, number, len(shots), steps)
                continue
            parts.append(event.frames)
            fps = event.fps
            for stage, seconds in event.timings.items():
                timings[stage] = timings.get(stage, 0.0) + seconds
    yield Video(np.concatenate(parts), fps, timings)


def _of_all(event: Progress, number: int, count: int, steps: int) -> Progress:
    """Progress of one shot as that of all: only denoising counts, as it takes nearly all time."""
    if event.stage == "denoise":
        return replace(event, step=(number * event.steps + event.step) // count)
    done = number + (event.stage == "decode")
    return replace(event, stage="denoise", step=done * steps // count, steps=steps)
