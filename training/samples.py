"""A contact sheet of what a checkpoint draws for every example prompt, once each, unpicked.

    python -m training.samples model/pretrained -o sheet.png
    python -m training.samples model/pretrained-wide --first-frame -o sheet.png

With --first-frame: a scene of every family that was never trained on, drawn from its caption and
its first frame, and below it the scene as it is.
"""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import world
from model.pipeline import GenerationRequest, VideoPipeline
from world.sheet import contact_sheet

SEED = 1
"""Of every clip that is drawn to be looked at."""
SCALE = 2
SCENE = 10**6
"""The seed of the scenes that are gone on from; training clips have smaller ones."""

Clip = tuple[int, str, NDArray[np.uint8]]
"""The place of a prompt among all, the prompt, and the frames `(T, H, W, 3)` drawn for it."""


def draw_clips(checkpoint: Path) -> Iterator[Clip]:
    """Draw the example prompts of a checkpoint."""
    pipeline = VideoPipeline.from_pretrained(checkpoint)
    for place, prompt in enumerate(pipeline.description.examples or ()):
        yield place, prompt, draw(pipeline, GenerationRequest(prompt, seed=SEED))


def draw_from_first_frames(checkpoint: Path) -> Iterator[Clip]:
    """Go on from the first frame of a scene of every family, and give the scene itself, too."""
    pipeline = VideoPipeline.from_pretrained(checkpoint)
    for place, family in enumerate(world.FAMILIES):
        scene = world.sample(family, SCENE)
        true = world.render(scene)
        request = GenerationRequest(scene.caption, seed=SEED, image=Image.fromarray(true[0]))
        yield 2 * place, f"{scene.caption}, from its first frame", draw(pipeline, request)
        yield 2 * place + 1, "the scene itself", true


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
    parser.add_argument("--first-frame", action="store_true", help="start from images, too")
    options = parser.parse_args()
    drawn = draw_from_first_frames if options.first_frame else draw_clips
    lay_out(drawn(options.checkpoint)).save(options.output)
