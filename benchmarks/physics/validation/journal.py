"""What a validation has seen so far, so that one that was cut off goes on."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.physics.validation.nuisances import AUTOENCODER
from benchmarks.physics.validation.trials import Outcome, Treatment

ROOT = Path(__file__).parents[3]
MAKERS = "world", "benchmarks/physics/detectors", "benchmarks/physics/validation"
"""Folders of all that an outcome follows from, besides the autoencoder."""


class Journal:
    """The outcomes of whole treatments, a line each, in a file that is gone once it is closed well.

    One that other code, another autoencoder or other seeds have made is begun anew.
    """

    def __init__(self, path: Path, first_seed: int) -> None:
        self._path = path
        self._known: dict[tuple[Treatment, int], list[Outcome]] = {}
        header = json.dumps({"made_by": made_by(), "first_seed": first_seed}) + "\n"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        if lines[:1] != [header]:
            lines = [header]
        whole = [line for line in lines if line.endswith("\n")]  # not one that was cut off
        self._before, self._begun = 0.0, time.monotonic()
        for line in whole[1:]:
            told = json.loads(line)
            self._before = told["seconds"]
            treatment = Treatment(**told["treatment"])
            outcomes = [Outcome(treatment, *fields) for fields in told["outcomes"]]
            self._known[treatment, told["clips"]] = outcomes
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(whole))

    def __enter__(self) -> Self:
        self._file = self._path.open("a")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._path.unlink()

    @property
    def seconds(self) -> float:
        """How long it has taken so far, the runs that were cut off, too."""
        return self._before + time.monotonic() - self._begun

    def known(self, item: tuple[Treatment, int]) -> list[Outcome] | None:
        """The outcomes of a treatment and the number of its clips, if they are there."""
        return self._known.get(item)

    def add(self, item: tuple[Treatment, int], outcomes: Sequence[Outcome]) -> None:
        """Note the outcomes of a treatment."""
        treatment, clips = item
        told = [astuple(outcome)[1:] for outcome in outcomes]
        line = {"treatment": asdict(treatment), "clips": clips, "seconds": self.seconds}
        self._file.write(json.dumps({**line, "outcomes": told}) + "\n")
        self._file.flush()


def made_by() -> str:
    """A hash of all that outcomes follow from, besides the seeds."""
    digest = hashlib.sha256()
    files = [path for folder in MAKERS for path in (ROOT / folder).rglob("*")]
    files += (ROOT / AUTOENCODER).iterdir()
    for path in sorted(files):
        if path.suffix in (".py", ".yaml", ".json", ".safetensors"):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\n" + path.read_bytes())
    return digest.hexdigest()
