"""Look at the world: contact sheets of its clips, and one clip as a file with its exact state."""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np

from world import FAMILIES, FPS, MAX_FRAMES, NUM_FRAMES, Scene, corrupt, render, sample
from world.palette import BACKGROUNDS
from world.render import Size
from world.sheet import contact_sheet
from world.style import STYLES


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m world", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_preview(commands.add_parser("preview", help="write a contact sheet: a row is a clip"))
    _add_render(commands.add_parser("render", help="write one clip as an MP4"))
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], str] = options.run
    try:
        print(run(options))
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return 0


def _add_preview(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, help="image file to write")
    parser.add_argument("--seed", type=int, default=0, help="first seed to look at")
    parser.add_argument("--size", type=int, default=64, help="pixels a frame")
    parser.add_argument("--scale", type=int, default=3, help="enlargement of the pixels")
    parser.add_argument("--family", choices=list(FAMILIES), help="one family only")
    parser.add_argument("--held-out", action="store_true", help="combinations never trained on")
    parser.set_defaults(run=preview)


def _add_render(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--family", required=True, choices=list(FAMILIES))
    parser.add_argument("--seed", type=int, required=True, help="0 or greater")
    parser.add_argument("--held-out", action="store_true", help="combinations never trained on")
    parser.add_argument("--corrupt", metavar="NAME[=VALUE]", help="break one law of the scene")
    parser.add_argument("--style", choices=list(STYLES), default="plain")
    parser.add_argument(
        "--size", type=_size, default=64, help="pixels of a square's side, or WIDTHxHEIGHT; even"
    )
    parser.add_argument("--scale", type=int, default=4, help="enlargement of the pixels")
    parser.add_argument("--frames", type=int, default=NUM_FRAMES, help=f"up to {MAX_FRAMES}")
    parser.add_argument("-o", "--output", type=Path, required=True, help="MP4 to write")
    parser.add_argument("--state", type=Path, help="JSON to write the exact state to")
    parser.set_defaults(run=render_clip)


def _size(text: str) -> Size:
    """The side of a size such as 64, or height and width of one such as 80x48."""
    width, x, height = text.partition("x")
    return (int(height), int(width)) if x else int(width)


def preview(options: argparse.Namespace) -> str:
    """Write a contact sheet with a row for each family and background."""
    if options.scale < 1:
        raise ValueError(f"--scale is {options.scale}; it must be 1 or more")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    families = [options.family] if options.family else list(FAMILIES)
    scenes = [
        scene
        for family in families
        for scene in one_per_background(family, options.seed, options.held_out)
    ]
    rows = [
        (f"{scene.caption}   (seed {scene.seed})", render(scene, options.size)) for scene in scenes
    ]
    contact_sheet(rows, options.scale).save(options.output)
    return f"{options.output}: {len(scenes)} clips"


def one_per_background(family: str, seed: int, held_out: bool) -> list[Scene]:
    """The first scene from a seed on that plays before each background it may play before."""
    found: dict[str, Scene] = {}
    for tried in range(seed, seed + 40 * len(BACKGROUNDS)):
        scene = sample(family, tried, held_out)
        found.setdefault(scene.slots["background"], scene)
        if len(found) == len(BACKGROUNDS):
            break
    return [found[name] for name in BACKGROUNDS if name in found]


def render_clip(options: argparse.Namespace) -> str:
    """Write one clip, corrupted or not, and its state.

    The file is larger than what is drawn: browsers play H.264 in 4:2:0, which has one colour for
    four pixels, and at the size of the drawing that takes legs, surfaces and the like their own.
    """
    if options.output.suffix.lower() != ".mp4":
        raise ValueError(f"--output is {options.output}; the name must end in .mp4")
    if np.any(np.array(options.size) % 2):
        raise ValueError(f"--size is {options.size}; H.264 needs an even number")
    if options.scale < 1:
        raise ValueError(f"--scale is {options.scale}; it must be 1 or more")
    scene = sample(options.family, options.seed, options.held_out, frames=options.frames)
    if options.corrupt is not None:
        scene = corrupt(scene, *_corruption(options.corrupt))
    frames = render(scene, options.size, options.style)
    frames = frames.repeat(options.scale, axis=1).repeat(options.scale, axis=2)
    video = iio.imwrite(
        "<bytes>", frames, extension=".mp4", plugin="pyav", codec="libx264", fps=FPS
    )
    _write(options.output, bytes(video))
    if options.state is not None:
        described = {**describe(scene), "corrupted": options.corrupt, "style": options.style}
        _write(options.state, json.dumps(described, indent=1).encode())
    return f"{options.output}: {scene.caption}"


def _corruption(text: str) -> tuple[str, float | None]:
    name, equals, value = text.partition("=")
    try:
        return name, float(value) if equals else None
    except ValueError:
        raise ValueError(f"--corrupt is {text!r}; the value must be a number") from None


def describe(scene: Scene) -> dict[str, Any]:
    """All that decides a scene's pixels, but for retouches of the frames, as JSON can hold it."""

    def plain(state: dict[str, Any]) -> dict[str, Any]:
        return {name: np.asarray(value).tolist() for name, value in state.items()}

    return {
        "family": scene.family,
        "seed": scene.seed,
        "caption": scene.caption,
        "slots": scene.slots,
        "fps": FPS,
        "state": plain(scene.state),
        "changes": [
            {"first": first, "end": end, "state": plain(state)}
            for first, end, state in scene.changes
        ],
        "extras": [plain(state) for state in scene.extras],
    }


def _write(path: Path, content: bytes) -> None:
    """Write a file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main())
