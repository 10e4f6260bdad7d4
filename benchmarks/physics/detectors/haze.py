"""How unsharp a clip is, and so how far its readings may be off."""

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.parts import Part
from benchmarks.physics.detectors.stage import Stage

CLEAR, THICK = 1.0, 14.0
"""Lab haze up to which a clip is clear, and from which nothing in it can be measured."""
WIDEST = 2.0
"""The most by which haze widens a bound."""
_STEP = np.ones((1, 5, 5), bool)


def haze(stage: Stage, parts: Iterable[Part]) -> float:
    """The Lab distance from the scenery in a ring of 2 to 4 pixels round the haziest thing.

    There a sharp clip has little but scenery, noise or ringing is everywhere: hence the upper
    third, which a rod or a hill in the ring does not reach.
    """
    near = [ndimage.binary_dilation(thing.mask > 0.05, _STEP) for thing in parts]
    if not near:
        return 0.0
    bare = ~np.any(near, axis=0) & (stage.shadow == 0)
    rings = [stage.contrast[ndimage.binary_dilation(one, _STEP) & bare] for one in near]
    return max((float(np.quantile(ring, 0.67)) for ring in rings if len(ring)), default=0.0)


def rest_of(off: Floats, haze: float) -> float:
    """How far places `(N,)` stray from a law: rms, or in a hazy clip what the median says of it, as
    a ghost may draw a place or two away."""
    if haze > CLEAR:
        return 1.4826 * float(np.median(np.abs(off)))
    return float(np.sqrt((off**2).mean()))


def slack(haze: float) -> float:
    """By what factor bounds widen: the error of a reading grows with the haze round it."""
    return float(np.clip(1.0 + 0.8 * (haze - CLEAR), 1.0, WIDEST))
