"""Detectors of physical and semantic faults that read pixels and know nothing of any renderer.

`read` finds the things of a clip; `judge` holds them to the laws of a family and to its caption.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.physics.detectors import binding, stage, steady
from benchmarks.physics.detectors import haze as sharpness
from benchmarks.physics.detectors.clip import RATE, bring
from benchmarks.physics.detectors.expectation import expectation
from benchmarks.physics.detectors.families import ALONE, LAWS, THINGS
from benchmarks.physics.detectors.measurable import unmeasurable, unreadable
from benchmarks.physics.detectors.palettes import divide, knowing
from benchmarks.physics.detectors.reading import Findings, Reading
from benchmarks.physics.detectors.thresholds import bound

__all__ = ["MOST", "Reading", "Verdict", "expectation", "judge", "read"]

MOST = 1000.0
"""The error of what is absent or cannot be measured, and the largest there is: so that an error is
always a number."""
SEMANTIC = frozenset({"C1", "C2", "E1", "P1", "S1", "S2", "V1", "X1"})
"""Detectors of what the caption says; the others judge laws."""
VANISHED = "O1"
"""The detector of things that come and go."""


@dataclass(frozen=True)
class Verdict:
    """What the detectors say of a clip.

    `errors` holds each detector's worst figure over its bound, so that 1 or less passes and
    `MOST` is of what is not there; `figures` the figures themselves, None where there is none.
    `evidence_frames` are frames of the clip as it was given, those of the worst errors first.
    `reason` says why a clip is not measurable.
    """

    measurable: bool
    semantic: bool
    physics: bool
    errors: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float | None] = field(default_factory=dict)
    evidence_frames: list[int] = field(default_factory=list)
    reason: str = ""

    @property
    def passed(self) -> bool:
        """Whether the clip is all that was asked."""
        return self.measurable and self.semantic and self.physics


def read(
    frames: NDArray[np.uint8], family: str, expect: Mapping[str, str], fps: float = RATE
) -> Reading:
    """Find the things of a clip.

    Args:
        frames: `(T, H, W, 3)` RGB, the shorter side 32 pixels or more.
        family: which family's things to look for.
        expect: slots of the caption, as `{"colour": "red", "direction": "left"}`; those left out
            are not asked for.
        fps: frames a second.

    Raises:
        ValueError: for an unknown family, slot or word, or frames that are no clip.
    """
    if family not in THINGS:
        raise ValueError(f"family is {family!r}; the detectors know {', '.join(THINGS)}")
    expect = expectation(expect)
    clip = bring(frames, fps)
    view = stage.look(clip)
    things, strange = divide(clip, view, THINGS[family], expect)
    # Round what stands among other things there is more than haze.
    haze = sharpness.haze(view, things.values()) if family in ALONE else 0.0
    if haze > sharpness.CLEAR:
        things, strange = divide(clip, view, knowing(THINGS[family], things), expect)
    return Reading(family, expect, clip, view, things, strange, haze)


def judge(reading: Reading) -> Verdict:
    """Hold a reading to the laws of its family and to its caption."""
    if reason := unreadable(reading):
        return Verdict(False, False, False, reason=reason)
    findings = {
        **LAWS[reading.family](reading),
        **binding.place(reading),
        **steady.scenery(reading),
    }
    values = {name: float(found.value) for name, found in findings.items()}
    wider = sharpness.slack(reading.haze)
    over = {n: excess(v, bound(reading.family, n), wider) for n, v in values.items()}
    errors: dict[str, float] = {}
    for name, value in over.items():
        detector = name.split(".")[0]
        errors[detector] = max(errors.get(detector, 0.0), value)
    fired = {detector for detector, value in errors.items() if value > 1.0}
    if VANISHED not in fired and (reason := unmeasurable(reading)):
        return Verdict(False, False, False, reason=reason)
    return Verdict(
        measurable=True,
        semantic=not fired & SEMANTIC,
        physics=not fired - SEMANTIC,
        errors=errors,
        figures={n: v if math.isfinite(v) else None for n, v in values.items()},
        evidence_frames=_evidence(reading, findings, over),
    )


def excess(value: float, limit: float, slack: float = 1.0) -> float:
    """A figure against its bound on a scale where 1 is the bound, `MOST` at the most.

    `slack` widens a positive bound. Where a bound is not positive the scale is shifted instead: 1
    plus what lies beyond. What is not a number has the largest error.
    """
    if math.isnan(value):
        return MOST
    over = value / (limit * slack) if limit > 0 else 1.0 + value - limit
    return min(max(over, 0.0), MOST)


def _evidence(reading: Reading, findings: Findings, over: dict[str, float]) -> list[int]:
    order = sorted((name for name in over if over[name] > 1.0), key=lambda name: -over[name])
    frames = [int(reading.clip.index[findings[name].frame]) for name in order]
    return list(dict.fromkeys(frames))
