"""`python -m world preview -o sheet.png`: a contact sheet of the world."""

import argparse
import sys
from pathlib import Path

from world import FAMILIES, Scene, render, sample
from world.palette import BACKGROUNDS
from world.sheet import contact_sheet


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
    if options.scale < 1:
        parser.error(f"--scale is {options.scale}; it must be 1 or more")
    try:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        families = [options.family] if options.family else list(FAMILIES)
        scenes = [
            scene
            for family in families
            for scene in one_per_background(family, options.seed, options.held_out)
        ]
        rows = [
            (f"{scene.caption}   (seed {scene.seed})", render(scene, options.size))
            for scene in scenes
        ]
        contact_sheet(rows, options.scale).save(options.output)
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


if __name__ == "__main__":
    sys.exit(main())
