"""Runs training.data.prepare, and kills it (SIGKILL) in every one of its stages in turn.

Each life goes on from what the one before left, and is killed where what it has just written would
take its name, so that unfinished files and folders are left as well. The last one goes through.
Prints a line a life: where it ended, and its signal or exit status.
"""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import tests.training.finetuning  # noqa: F401  (what takes long to import, for all lives)
import training.data.prepare.encode  # noqa: F401
from training.data.prepare.__main__ import main, parse_arguments
from training.files import alone

PLACES = {
    ".work/scenes": 2, ".work/captions": 2, ".work/scores": 2, "latents/": 1, "text/": 1,
    "index.parquet": 1, "report.html": 1, "README.md": 1, "dataset.json": 1,
}  # fmt: skip
"""A part of the name that is not taken, and the count of names with it after which that is."""


def dies_at(place: str, count: int) -> None:
    seen: list[str] = []

    def guarded(take: Any) -> Any:
        def taken(path: Path, target: Path) -> Any:
            if place in str(target) and not str(target).endswith(".old"):
                seen.append(str(target))
                if len(seen) == count:
                    os.kill(os.getpid(), signal.SIGKILL)
            return take(path, target)

        return taken

    Path.replace, Path.rename = guarded(Path.replace), guarded(Path.rename)  # type: ignore[method-assign]


def live(place: str) -> None:
    """A whole life, in a process of its own."""
    if place:
        dies_at(place, PLACES[place])
    try:
        options = parse_arguments(sys.argv[1:])
        with alone(options.output):
            main(options)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    for place in (*PLACES, ""):
        child = os.fork()
        if not child:
            live(place)
        _, status = os.waitpid(child, 0)
        print(place or "end", os.waitstatus_to_exitcode(status), flush=True)
