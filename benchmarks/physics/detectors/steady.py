"""O3 of the scenery, O2 of what comes to a halt with all else, and K4 of what keeps its height."""

import numpy as np

from benchmarks.physics.detectors.clip import Floats, distance
from benchmarks.physics.detectors.motion import visible
from benchmarks.physics.detectors.parts import Part
from benchmarks.physics.detectors.reading import Finding, Findings, Reading, worst

STIR = 6.0
"""Lab distance from which a pixel has changed from one frame to the next."""
STILL = 0.2
"""The share of the usual change under which a clip stands still for a frame."""


def scenery(reading: Reading) -> Findings:
    """O3: how far in Lab the light over most of the picture changes in the clip."""
    off = (reading.clip.lab - reading.stage.picture).reshape(len(reading.time), -1, 3)
    usual = np.median(off, axis=1)
    change = np.linalg.norm(usual - np.median(usual, axis=0), axis=1)
    return {"O3.scenery": worst(change)}


def frozen(reading: Reading) -> Findings:
    """O2: whether a clip in which something always moves shows one moment twice and then goes on:
    by how much the share of the usual change falls short of `STILL` where it is least."""
    change = distance(reading.clip.lab[1:], reading.clip.lab[:-1]) > STIR
    stir = change.sum((1, 2)) / max(float(np.median(change.sum((1, 2)))), 1.0)
    moving = np.flatnonzero(stir > STILL)
    if len(moving) == 0:
        return {}
    stir = stir[: int(moving[-1]) + 1]
    return {"O2.frozen": Finding(STILL - float(stir.min()), int(stir.argmin()) + 1)}


def level(reading: Reading, *names: str) -> Findings:
    """K4: how far in pixels what stands or rolls leaves its usual height."""
    findings: Findings = {}
    for name in names:
        thing = reading.parts[name]
        at = visible(thing)
        if len(at) >= 4:
            found = worst(off_level(thing, at), at)
            findings["K4.level"] = max(findings.get("K4.level", found), found)
    return findings


def off_level(thing: Part, at: "np.typing.NDArray[np.int64]") -> Floats:
    """How far the middle and the foot both are from where they usually are, `(N,)` in pixels: what
    grows moves the one, a smear the other."""
    middle = thing.centre[at, 1]
    foot = middle + np.sqrt(thing.area[at] / np.pi)
    off = [np.abs(y - np.median(y)) for y in (middle, foot)]
    return np.asarray(np.minimum(*off))
