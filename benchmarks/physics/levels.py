"""L0, the world's prompts judged by detectors, and L1, diagnostics of any clip."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics import detectors, l1
from benchmarks.physics.cases import Case, Clip
from benchmarks.physics.grading import Grade, digest
from world import captions

HERE = Path(__file__).parent


def expected(case: Case) -> tuple[str, Mapping[str, str]]:
    """The family and slots that a prompt of the world names.

    Raises `ValueError` for any other prompt.
    """
    named = captions.parse(case.prompt)
    if named is None:
        raise ValueError(
            f"{case.case_id}: {case.prompt!r} is no sentence of the world; grade it with "
            f"--level l1 or l2"
        )
    return named["family"], {slot: value for slot, value in named.items() if slot != "family"}


class World:
    """L0: detectors that read pixels, and pass or fail a clip."""

    digest = "l0-" + digest(HERE / "detectors")

    def check(self, cases: Sequence[Case]) -> None:
        """Raises `ValueError` if a prompt is not the world's."""
        for case in cases:
            expected(case)

    def grade(self, clip: Clip, frames: NDArray[np.uint8], fps: float) -> Grade:
        """Read a clip and hold it to its prompt and its laws."""
        family, slots = expected(clip.case)
        verdict = detectors.judge(detectors.read(frames, family, slots, fps))
        details = {
            "reason": verdict.reason,
            "figures": verdict.figures,
            "evidence_frames": verdict.evidence_frames,
        }
        return Grade(verdict.measurable, verdict.semantic, verdict.physics, verdict.errors, details)


class Diagnostics:
    """L1: describes; a clip is "measurable" if it moves, and nothing passes or fails."""

    digest = "l1-" + digest(HERE / "l1")

    def grade(self, clip: Clip, frames: NDArray[np.uint8], fps: float) -> Grade:
        """Measure a clip."""
        values = l1.measure(frames, fps, clip.case.prompt)
        errors = {name: value for name, value in values.items() if value is not None}
        moves = (values["motion"] or 0.0) >= l1.MOTION_GATE
        return Grade(moves, False, False, errors)
