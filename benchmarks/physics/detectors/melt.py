"""T1 and A1: ice turns to water, never back, and nothing is lost."""

import numpy as np
from scipy import ndimage

from benchmarks.physics.detectors.haze import CLEAR
from benchmarks.physics.detectors.motion import jumps
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst

DENSITY = 0.92
"""Of ice over that of water, at 0 degrees Celsius."""


def melting(reading: Reading, ice: str = "ice", puddle: str = "puddle") -> Findings:
    """T1 in shares of the first ice: sum of both, ice that grows, puddle that shrinks, and A1,
    that it melts at all."""
    solid, liquid = reading.parts[ice].area, reading.parts[puddle].area
    if reading.haze > CLEAR:  # a smear may make either larger for a frame
        solid, liquid = (ndimage.median_filter(area, 3) for area in (solid, liquid))
    start = float(np.median(solid[:2]))
    if start < 10.0:
        return {"T1.sum": ABSENT}
    total = DENSITY * solid + liquid
    usual = DENSITY * start + float(np.median(liquid[:2]))
    grown = np.maximum(solid - np.minimum.accumulate(solid), 0.0)
    shrunk = np.maximum(np.maximum.accumulate(liquid) - liquid, 0.0)
    return {
        "T1.sum": worst(np.abs(total / usual - 1.0)),
        "T1.ice": worst(grown / start),
        "T1.puddle": worst(shrunk / start),
        "T1.sudden": worst(-np.diff(solid) / start),
        "O2.jump": worst(jumps(reading.time, reading.parts[ice].centre * (1.0, 0.0))),
        "A1.melts": Finding(float(solid[-1]) / start, len(solid) - 1),
    }
