"""A contact sheet of what a checkpoint draws for every example prompt, once each, unpicked.

python -m training.samples model/pretrained -o sheet.png
"""

import argparse
from pathlib import Path

from model.pipeline import GenerationRequest, VideoPipeline
from world import captions
from world.sheet import contact_sheet

SEED = 1


def write_sheet(checkpoint: Path, path: Path, scale: int = 2) -> None:
    """Draw the prompts with the checkpoint and save the sheet as a PNG."""
    pipeline = VideoPipeline.from_pretrained(checkpoint)
    rows = [
        (prompt, pipeline.render(GenerationRequest(prompt, seed=SEED)).frames)
        for prompt in captions.examples()
    ]
    contact_sheet(rows, scale).save(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    write_sheet(options.checkpoint, options.output)
