"""Scores of one's own, as of aesthetics or of text in the picture, by `module:function`."""

import hashlib
import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from training.data.clips import covering, cropped, read_clip
from training.data.decode import Pixels
from training.data.prepare.workers import each
from training.files import write_whole

Score = Callable[[Pixels], dict[str, float]]
"""Frames `(T, H, W, 3)` uint8, as they are encoded, to numbers by the name of their column."""


def plug_in(name: str) -> Score:
    """Import a score by `module:function`.

    Raises:
        ValueError: if there is none.
    """
    module, _, function = name.partition(":")
    try:
        found: Score = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"--score {name}: {error}; allowed is module:function, which takes frames "
            "(T, H, W, 3) uint8 and gives a dict of numbers"
        ) from error
    return found


def score(
    clips: Sequence[dict[str, Any]], names: Sequence[str], work: Path, fps: int, workers: int
) -> None:
    """Give clips the numbers of plug-ins, in place; what one found is kept till its code changes.

    Raises:
        ValueError: for a plug-in that brings its process down.
    """
    for name in names:
        told = json.dumps([name, inspect.getsource(inspect.getmodule(plug_in(name)) or plug_in)])
        kept = work / f"scores-{fps}-{hashlib.blake2b(told.encode(), digest_size=6).hexdigest()}"
        kept.mkdir(parents=True, exist_ok=True)
        missing = [clip for clip in clips if not (kept / _file(clip)).exists()]
        one = partial(_score, name=name, fps=fps, kept=kept)
        done = len(clips) - len(missing)
        for clip, found in tqdm(each(one, missing, workers), name, len(clips), initial=done):
            if found is None:
                raise ValueError(f"--score {name}: it ends the process on a clip of {clip['uri']}")
        for clip in clips:
            clip.setdefault("scores", {}).update(json.loads((kept / _file(clip)).read_bytes()))


def _score(clip: dict[str, Any], name: str, fps: int, kept: Path) -> bool:
    size = clip["clip_width"], clip["clip_height"]
    frames = cropped(read_clip(clip, Fraction(fps), covering(*size)), *size)
    write_whole(kept / _file(clip), json.dumps(plug_in(name)(frames)).encode())
    return True


def _file(clip: dict[str, Any]) -> str:
    return f"{clip['id']}-{clip['frames']}-{clip['clip_width']}x{clip['clip_height']}.json"
