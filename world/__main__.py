"""`python -m world preview -o sheet.png`: a contact sheet of the world."""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from world import FAMILIES, NUM_FRAMES, Scene, render, sample
from world.palette import BACKGROUNDS

SHOWN = range(0, NUM_FRAMES, 2)


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m world", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    preview = commands.add_parser("preview", help="write a contact sheet: a row is a clip")
    preview.add_argument("-o", "--output", type=Path, required=True, help="image file to write")
    preview.add_argument("--seed", type=int, default=0, help="first seed to look at")
    preview.add_argument("--size", type=int, default=64, help="pixels a frame")
    preview.add_argument("--scale", type=int, default=3, help="enlargement of the pixels")
    preview.add_argument("--family", choices=list(FAMILIES), help="one family only")
    preview.add_argument("--held-out", action="store_true", help="combinations never trained on")
    options = parser.parse_args(arguments)
    if not options.output.parent.is_dir():
        parser.error(f"--output {options.output}: the folder {options.output.parent} is missing")
    if options.scale < 1:
        parser.error(f"--scale is {options.scale}; it must be 1 or more")
    try:
        families = [options.family] if options.family else list(FAMILIES)
        scenes = [
            scene
            for family in families
            for scene in one_per_background(family, options.seed, options.held_out)
        ]
        sheet = contact_sheet(scenes, options.size, options.scale)
        sheet.save(options.output)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"{options.output}: {len(scenes)} clips")
    return 0


def one_per_background(family: str, seed: int, held_out: bool) -> list[Scene]:
    """The first scene from a seed on that plays before each background."""
    found: dict[str, Scene] = {}
    while len(found) < len(BACKGROUNDS):
        scene = sample(family, seed, held_out)
        found.setdefault(scene.slots["background"], scene)
        seed += 1
    return [found[name] for name in BACKGROUNDS]


def contact_sheet(scenes: list[Scene], size: int, scale: int) -> Image.Image:
    """Every second frame of each scene in a row, under its caption and seed."""
    step, header = size * scale + 2, 14
    sheet = Image.new("RGB", (len(SHOWN) * step, len(scenes) * (step + header)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, scene in enumerate(scenes):
        top = row * (step + header)
        pen.text((2, top + 1), f"{scene.caption}   (seed {scene.seed})", fill="black")
        frames = render(scene, size)
        for column, frame in enumerate(SHOWN):
            large = np.repeat(np.repeat(frames[frame], scale, 0), scale, 1)
            sheet.paste(Image.fromarray(large), (column * step, top + header))
    return sheet


if __name__ == "__main__":
    sys.exit(main())
