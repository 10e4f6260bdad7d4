"""`phyworld`: velocity errors of clips of PhyWorld's scenes, as its paper reads them and corrected.

Kang et al., "How Far is Video Generation from World Model: A Physical Law Perspective" (2024). The
error is of mean velocity, before and after an impact each, summed over the axes that a ball moves
along, in units a second: so the published floors (0.0099, 0.0117 and 0.0210) come out. The paper's
parser divides pixel indices by the width although its renderer spread them over width - 1, and so
reads every speed short by one part in the width: that is most of its error on true clips. An error
means something only beside the parser, the size, and the floor: what it makes of true clips.
"""

import argparse
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.report import write_json
from model.video import read_video, write_mp4
from world import phyworld
from world.phyworld import NUM_FRAMES, SIDE, SPLITS, TASKS, TIMESTEP, Trajectory

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
NAME = re.compile(rf"({'|'.join(TASKS)})-({'|'.join(SPLITS)})-(\d+)\.mp4")


@dataclass(frozen=True)
class Parser:
    """How a ball's place is read: from a `soft` mask or a hard one, in indices over width - `less`.

    A soft mask weighs a pixel by how much of it is the ball's, a hard one counts what is half.
    """

    soft: bool
    less: int


PARSERS = {
    "paper": Parser(soft=False, less=0),
    "corrected, hard": Parser(soft=False, less=1),
    "corrected": Parser(soft=True, less=1),
}


class Error(NamedTuple):
    """Of a clip's mean velocities and of its velocity from frame to frame, units a second."""

    clip: float
    frame: float


def places(frames: Pixels, ball: int, parser: Parser) -> Floats:
    """Where a ball is, `(T, 2)` in units of length, y up; NaN where it is not whole in view.

    Args:
        frames: `(T, H, H, 3)` RGB: the first ball is red, the second blue, all else white.
        ball: 0 or 1.
        parser: how to read.
    """
    size = frames.shape[1]
    other, own = frames[..., 2 - 2 * ball].astype(np.float64), frames[..., 2 * ball]
    weight = np.where(own > 127, 1.0 - other / 255.0, 0.0)
    weight = np.where(weight < 0.1, 0.0, weight) if parser.soft else (weight > 0.5) * 1.0
    total = weight.sum((1, 2))
    solid = weight > 0.5
    cut = solid[:, [0, -1]].any((1, 2)) | solid[:, :, [0, -1]].any((1, 2))
    at = np.arange(size) * SIDE / (size - parser.less)
    safe = np.where((total > 4.0) & ~cut, total, np.nan)
    x, y = (weight.sum(1) @ at) / safe, SIDE - (weight.sum(2) @ at) / safe
    return np.stack([x, y], 1)


def velocity_error(frames: Pixels, truth: Trajectory, parser: Parser) -> Error | None:
    """The mean error over the balls of a clip; None if one of them cannot be followed.

    Raises `ValueError` for frames that are no clip of this world.
    """
    if frames.ndim != 4 or len(frames) != NUM_FRAMES or frames.shape[1] != frames.shape[2]:
        raise ValueError(f"frames are {frames.shape}; wanted ({NUM_FRAMES}, H, H, 3)")
    errors = []
    for ball in range(len(truth.radii)):
        read, true = places(frames, ball, parser), truth.positions[:, ball]
        seen = np.flatnonzero(~np.isnan(read[:, 0]))
        if len(seen) < 3:
            return None
        gaps = (np.diff(seen) * TIMESTEP)[:, None]
        velocity = np.diff(true[seen], axis=0) / gaps
        moves = np.abs(velocity).max(0) > 1e-6
        off = (np.diff(read[seen], axis=0) / gaps - velocity)[:, moves]
        means = [np.abs(off[part].mean(0)).sum() for part in even_parts(velocity)]
        errors.append((float(np.mean(means)), float(np.abs(off).sum(1).mean())))
    return Error(*np.mean(errors, axis=0).tolist())


def even_parts(velocity: Floats) -> list[slice]:
    """The steps before and after an impact, which changes the true velocity `(N, 2)` along x; the
    step in which it falls has neither velocity. Without an impact, all steps."""
    changed = np.flatnonzero(np.abs(np.diff(velocity[:, 0])) > 1e-6)
    if len(changed) == 0:
        return [slice(None)]
    parts = (slice(0, int(changed[0]) + 1), slice(int(changed[-1]) + 1, len(velocity)))
    return [part for part in parts if part.stop - part.start > 1] or [slice(None)]


def floor(task: str, split: str, size: int, parser: Parser, seeds: Iterable[int]) -> Error:
    """What a parser makes of true clips, drawn with the paper's pixels."""
    found = []
    for seed in seeds:
        truth = phyworld.sample(task, seed, split)
        error = velocity_error(phyworld.render(truth, size, "paper"), truth, parser)
        if error is not None:
            found.append(error)
    return Error(*np.mean(found, axis=0).tolist())


def read_clips(folder: Path) -> dict[tuple[str, str], list[tuple[Pixels, Trajectory]]]:
    """Clips of a folder by task and split; files are named `uniform-id-7.mp4` by task and seed.

    Raises `ValueError` for a folder without any.
    """
    clips: dict[tuple[str, str], list[tuple[Pixels, Trajectory]]] = {}
    for path in sorted(folder.glob("*.mp4")):
        if named := NAME.fullmatch(path.name):
            task, split, seed = named[1], named[2], int(named[3])
            truth = phyworld.sample(task, seed, split)
            clips.setdefault((task, split), []).append((read_video(path)[0], truth))
    if not clips:
        raise ValueError(f"{folder} has no clip named like {TASKS[0]}-{SPLITS[0]}-7.mp4")
    return clips


def write_clips(folder: Path, size: int, count: int) -> int:
    """Write true clips of each task and split, in the paper's pixels, by the names that are read:
    a model goes on from their first frames. Gives their number."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [(task, split, seed) for task in TASKS for split in SPLITS for seed in range(count)]
    for task, split, seed in names:
        frames = phyworld.render(phyworld.sample(task, seed, split), size, "paper")
        write_mp4(folder / f"{task}-{split}-{seed}.mp4", frames, 1 / TIMESTEP)
    return len(names)


def command(args: argparse.Namespace) -> int:
    """Print floors, or the errors of a folder of clips beside them; or write true clips."""
    if args.write:
        print(f"{args.write}: {write_clips(args.write, args.size, args.clips)} clips")
        return 0
    table: list[dict[str, Any]] = []
    if args.videos is None:
        for task in TASKS:
            for name, parser in PARSERS.items():
                low = floor(task, "id", args.size, parser, range(args.clips))
                table.append(_row(task, "id", name, args.size, args.clips, floor=low))
    else:
        for (task, split), clips in read_clips(args.videos).items():
            size = clips[0][0].shape[1]
            for name, parser in PARSERS.items():
                low = floor(task, split, size, parser, (truth.seed for _, truth in clips))
                table.append(_scored(task, split, name, clips, parser, low))
    for row in table:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if args.output:
        write_json({"schema": 1, "rows": table}, args.output)
    return 0


def _row(task: str, split: str, parser: str, size: int, clips: int, **errors: Error) -> Any:
    row: dict[str, Any] = {"task": task, "split": split, "parser": parser, "px": size}
    row["clips"] = clips
    for name, error in errors.items():
        row |= {name: round(error.clip, 5), f"{name} by frame": round(error.frame, 5)}
    return row


def _scored(
    task: str,
    split: str,
    name: str,
    clips: list[tuple[Pixels, Trajectory]],
    parser: Parser,
    low: Error,
) -> dict[str, Any]:
    """A clip whose balls cannot be followed is counted, and has no error."""
    found = [e for frames, truth in clips if (e := velocity_error(frames, truth, parser))]
    mean = Error(*np.mean(found, axis=0).tolist()) if found else Error(float("nan"), float("nan"))
    row: dict[str, Any] = _row(
        task, split, name, clips[0][0].shape[1], len(clips), error=mean, floor=low
    )
    return row | {"lost": len(clips) - len(found), "excess": round(mean.clip - low.clip, 5)}


def add_command(commands: Any) -> None:
    """Add `phyworld` to a parser's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "phyworld", help="velocity errors of clips of PhyWorld's scenes, and their floors"
    )
    parser.add_argument("--videos", type=Path, help="folder of TASK-SPLIT-SEED.mp4")
    parser.add_argument("--write", type=Path, help="folder to write true clips to, to start from")
    parser.add_argument("--size", type=int, default=256, help="pixels a frame, of true clips")
    parser.add_argument("--clips", type=int, default=100, help="true clips of a task")
    parser.add_argument("-o", "--output", type=Path, help="JSON to write")
    run: Callable[[argparse.Namespace], int] = command
    parser.set_defaults(command=run)
