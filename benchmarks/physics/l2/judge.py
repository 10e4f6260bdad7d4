"""The judge as a grader: what its answers make of a clip."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.cases import Case, Clip
from benchmarks.physics.grading import Grade, digest
from benchmarks.physics.l2.endpoint import Endpoint
from benchmarks.physics.l2.questions import (
    PHYSICS,
    SEMANTIC,
    Answered,
    Viewer,
    ask,
    describe,
    kind_of,
    naturalness,
)


class Judge:
    """L2 with one judge, who is asked so many questions of a clip at a time."""

    def __init__(self, endpoint: Endpoint, parallel: int = 1) -> None:
        self.endpoint, self.parallel = endpoint, parallel
        self.digest = f"l2-{endpoint.model}-{digest(Path(__file__).parent)}"

    def check(self, cases: Sequence[Case]) -> None:
        """Raises `ValueError` for a case without questions, or with one of an unknown kind."""
        for case in cases:
            if not case.questions:
                raise ValueError(f"{case.case_id} has no questions; level l2 needs some")
            for question in case.questions:
                kind_of(question)

    def grade(self, clip: Clip, frames: NDArray[np.uint8], fps: float) -> Grade:
        """Ask a case's questions of a clip."""
        seed = hashlib.sha256(frames.tobytes()).hexdigest()
        viewer = Viewer(self.endpoint, frames, fps, seed)
        with ThreadPoolExecutor(self.parallel) as pool:
            answered = list(pool.map(lambda asked: ask(asked, viewer), clip.case.questions))
        statements = [a.text for a in answered if a.kind in ("present", "outcome", "polarity")]
        grade = combine(answered)
        told = {"described": describe(viewer, statements), **naturalness(viewer)}
        return replace(grade, details=grade.details | told)


def combine(answered: Sequence[Answered]) -> Grade:
    """A clip that does not show what it should fails everything that is asked of that."""
    there = all(a.passed for a in answered if a.kind == "present")
    told = [a for a in answered if any(text not in ("", "cannot tell") for text in a.answers)]
    return Grade(
        measurable=len(told) == len(answered),
        semantic=there and all(a.passed for a in answered if a.kind in SEMANTIC),
        physics=there and all(a.passed for a in answered if a.kind in PHYSICS),
        details={
            "score": float(np.mean([a.credit for a in answered])) if there else 0.0,
            "answers": [asdict(a) for a in answered],
        },
    )
