"""The options by which `generate` is told what a video starts from, and the files they name."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

Frames = NDArray[np.uint8]


FILES = {
    "--first-frame": "image to start from; with --mask, a still to draw on",
    "--last-frame": "image to end in",
    "--extend": "video to go on from, which comes first in the file",
    "--video": "video to draw anew, as far as --strength says or where --mask does",
    "--mask": "image or video, white where to draw",
}
NAMES = {
    *(option.removeprefix("--").replace("-", "_") for option in FILES),
    *("keyframe", "extend_backward", "join", "loop"),
}
"""Of the arguments that `read` reads; some fields of an API request have the same."""


class CannotRead(Exception):
    """A file is not what an option needs; a sentence says why."""


def register(command: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = command.add_argument_group("what the video starts from")
    for option, help_text in FILES.items():
        group.add_argument(option, type=Path, metavar="FILE", help=help_text)
    group.add_argument(
        "--keyframe",
        action="append",
        default=[],
        type=_keyframe,
        metavar="N=FILE",
        help="image to be seen in frame N, counted from 0; may be repeated",
    )
    group.add_argument(
        "--extend-backward", action="store_true", help="lead up to the video of --extend instead"
    )
    group.add_argument(
        "--join",
        nargs=2,
        type=Path,
        metavar=("FIRST", "SECOND"),
        help="videos to lead from, and to",
    )
    group.add_argument(
        "--loop",
        action="store_true",
        help="lead back to --first-frame, or to the start of --extend",
    )
    group.add_argument(
        "--strength", type=float, help="share of the steps that are run from --video (0.8)"
    )


def _keyframe(text: str) -> tuple[int, Path]:
    number, _, file = text.partition("=")
    if not number.isdecimal() or not file:
        raise argparse.ArgumentTypeError(f"{text!r} is not N=FILE, such as 8=cat.png")
    return int(number), Path(file)


def read(args: argparse.Namespace, read_video: Callable[[Path], Frames]) -> dict[str, Any]:
    """The fields of a `GenerationRequest` that the options fill.

    Args:
        read_video: gives the frames `(T, H, W, 3)` of a file at the rate of the new video, or
            raises ValueError.

    Raises:
        CannotRead: for files that are not there or not what they are to be.
    """
    if args.extend_backward and args.extend is None:
        raise CannotRead("--extend-backward needs the video that --extend names.")
    if args.extend is not None and args.join is not None:
        raise CannotRead("--extend and --join both say what comes before; give one of them.")

    def video(path: Path) -> Frames:
        try:
            return read_video(path)
        except ValueError as error:
            raise CannotRead(f"{error}.") from None

    before, after = args.join or (args.extend, None)
    if args.extend_backward:
        before, after = None, before
    files = {"prefix": before, "suffix": after, "video": args.video}
    given: dict[str, Any] = {name: video(path) for name, path in files.items() if path is not None}
    images = {"image": args.first_frame, "last_image": args.last_frame}
    given |= {name: _image(path) for name, path in images.items() if path is not None}
    given |= {"mask": _mask(args.mask, video)} if args.mask is not None else {}
    keyframes = {number: _image(path) for number, path in args.keyframe}
    return given | {"keyframes": keyframes, "loop": args.loop}


def _image(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except UnidentifiedImageError:
        raise CannotRead(f"{path} cannot be read as an image.") from None
    except OSError as error:
        raise CannotRead(f"{path} cannot be read: {error.strerror or error}.") from None


def _mask(path: Path, video: Callable[[Path], Frames]) -> Frames:
    """Lightness `(H, W)` of an image, or `(T, H, W)` of a video."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L"))
    except UnidentifiedImageError:
        frames: Frames = video(path).mean(axis=-1).astype(np.uint8)
        return frames
    except OSError as error:
        raise CannotRead(f"{path} cannot be read: {error.strerror or error}.") from None
