"""Contact sheets of what a checkpoint under training draws."""

from pathlib import Path

from model.pipeline import GenerationRequest, Video, VideoPipeline
from world import captions
from world.sheet import contact_sheet

SEED = 1


def write_sheet(checkpoint: Path, path: Path) -> None:
    """Draw every example prompt with the checkpoint and save the sheet as a PNG."""
    pipeline = VideoPipeline.from_pretrained(checkpoint)
    rows = []
    for prompt in captions.examples():
        video = [*pipeline.generate(GenerationRequest(prompt, seed=SEED))][-1]
        assert isinstance(video, Video)
        rows.append((prompt, video.frames))
    contact_sheet(rows).save(path)
