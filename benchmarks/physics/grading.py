"""Clips to outcomes: every clip is read, graded once and remembered by what it is."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.cases import Clip
from benchmarks.physics.scores import Outcome, Status
from model.video import read_video

FIRST_TOLD = 5
"""After so many clips it is said how long the others will take."""


@dataclass(frozen=True)
class Grade:
    """What a level says of one clip; `details` is JSON for the report."""

    measurable: bool
    semantic: bool
    physics: bool
    errors: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


class Grader(Protocol):
    """A level: `digest` changes with anything that its grades hang on."""

    digest: str

    def grade(self, clip: Clip, frames: NDArray[np.uint8], fps: float) -> Grade:
        """Grade a clip. Raises `ValueError` for frames that cannot be measured."""
        ...


@dataclass(frozen=True)
class Graded:
    """A clip, what became of it, the SHA-256 of its file, and what its grader noted."""

    clip: Clip
    outcome: Outcome
    sha: str | None
    details: dict[str, Any]


def grade_all(
    clips: Sequence[Clip], grader: Grader, cache: Path, tell: Callable[[str], None]
) -> list[Graded]:
    """Grade every clip that was asked for; those that are no clips do not pass."""
    cache.mkdir(parents=True, exist_ok=True)
    graded = []
    begun = time.monotonic()
    for number, clip in enumerate(clips, 1):
        graded.append(_graded(clip, grader, cache))
        if (number == FIRST_TOLD or number % 50 == 0) and number < len(clips):
            left = (time.monotonic() - begun) / number * (len(clips) - number)
            tell(f"graded {number} of {len(clips)}, about {left:.0f} s to go")
    return graded


def _graded(clip: Clip, grader: Grader, cache: Path) -> Graded:
    if clip.path is None:
        status: Status = "refused" if clip.status == "refused" else "failed"
        outcome = Outcome(clip.case.case_id, clip.case.family, clip.repeat, status)
        return Graded(clip, outcome, None, {"reason": clip.error})
    sha = hashlib.sha256(clip.path.read_bytes()).hexdigest()
    asked = [grader.digest, sha, clip.case.family, clip.case.prompt, clip.case.questions]
    key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
    note = cache / f"{key}.json"
    if note.exists():
        answer = json.loads(note.read_text())
    else:
        answer = _answer(clip, clip.path, grader)
        part = note.with_suffix(".part")
        part.write_text(json.dumps(answer))
        os.replace(part, note)
    details = answer.pop("details")
    outcome = Outcome(clip.case.case_id, clip.case.family, clip.repeat, **answer)
    return Graded(clip, outcome, sha, details)


def _answer(clip: Clip, path: Path, grader: Grader) -> dict[str, Any]:
    try:
        frames, fps = read_video(path)
    except ValueError as error:
        return {"status": "failed", "details": {"reason": str(error)}}
    try:
        grade = grader.grade(clip, frames, fps)
    except ValueError as error:
        grade = Grade(False, False, False, details={"reason": str(error)})
    return {"status": "graded", **asdict(grade)}


def digest(folder: Path) -> str:
    """The SHA-256 of the code and data in a folder."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".py", ".yaml", ".json"):
            total.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return total.hexdigest()
