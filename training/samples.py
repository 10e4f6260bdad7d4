"""A contact sheet of what a checkpoint draws for every example prompt, once each, unpicked.

python -m training.samples model/pretrained -o sheet.png
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.pipeline import GenerationRequest, VideoPipeline
from world.sheet import contact_sheet

SEED = 1
"""Of every clip that is drawn to be looked at."""
SCALE = 2


Clip = tuple[int, str, NDArray[np.uint8]]
"""The place of a prompt among all, the prompt, and the frames `(T, H, W, 3)` drawn for it."""


def draw_clips(checkpoint: Path) -> Iterator[Clip]:
    """Draw the example prompts of a checkpoint."""
    pipeline = VideoPipeline.from_pretrained(checkpoint)
    for place, prompt in enumerate(pipeline.description.examples or ()):
        yield place, prompt, draw(pipeline, GenerationRequest(prompt, seed=SEED))


def draw(pipeline: VideoPipeline, request: GenerationRequest) -> NDArray[np.uint8]:
    """Draw one clip, `(T, H, W, 3)`."""
    return pipeline.render(request).frames


def lay_out(clips: Iterable[Clip]) -> Image.Image:
    """The contact sheet of clips, in the order of their places."""
    ordered = sorted(clips, key=lambda clip: clip[0])
    return contact_sheet([(prompt, frames) for _, prompt, frames in ordered], SCALE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    lay_out(draw_clips(options.checkpoint)).save(options.output)
