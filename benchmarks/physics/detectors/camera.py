"""V1: when the camera pans, all that it sees goes the other way, the far less than the near."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.motion import from_line, visible
from benchmarks.physics.detectors.parts import SOLID
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading
from benchmarks.physics.detectors.sides import SIGN

FAR_SKY = 0.3
"""The part of the height from the top in which things are too far off to be seen to move."""
TRUNK = 4
"""Pixels from the middle of a tree within which its trunk is."""
GAPS = 3, 4, 5
"""Frames between those that are compared."""


def panning(reading: Reading, name: str) -> Findings:
    """V1: how far in pixels the subject went with the asked pan, not against it; and how much of
    its way the scenery does not go along with it."""
    thing = reading.parts[name]
    at = visible(thing)
    if len(at) < 6:
        return {"V1.heading": ABSENT}
    _, velocity = from_line(reading.time[at], thing.centre[at])
    way = float(velocity[0] * (reading.time[at[-1]] - reading.time[at[0]]))
    speed, horizon = float(velocity[0]), reading.stage.horizon
    height = reading.size[0]
    whole, far, near = (
        scenery(reading, name, speed, rows)
        for rows in (
            slice(int(FAR_SKY * height), height),
            slice(int(FAR_SKY * height), horizon),
            slice((horizon + height) // 2, height),  # hills may pass for ground
        )
    )
    along = max(whole, min(far, near))  # what is far and what is near may agree on nothing
    found = {
        "V1.scenery": Finding(0.2 - along, int(at[-1])),
        "V1.far": Finding(far, int(at[-1])),
        "V1.near": Finding(0.9 - near, int(at[-1])),
    }
    if "direction" in reading.expect:
        found["V1.heading"] = Finding(SIGN[reading.expect["direction"]] * way, int(at[-1]))
    return found


def stands(reading: Reading, name: str) -> NDArray[np.bool_]:
    """Frames `(T,)` in which something stands out all the way down under the middle of a thing to
    the ground: a trunk may be seen by its edges alone, before ground of its own colour."""
    thing = reading.parts[name]
    plain = reading.stage.contrast > SOLID
    out = np.zeros(len(plain), bool)
    for t in np.flatnonzero(thing.seen):
        foot = int(np.flatnonzero((thing.mask[t] > 0.5).any(1))[-1]) + 1
        x = int(thing.centre[t, 0])
        under = plain[t, foot : reading.stage.horizon + 6, max(x - TRUNK, 0) : x + TRUNK + 1]
        out[t] = len(under) > 0 and under.any(1).mean() > 0.8
    return out


def scenery(reading: Reading, name: str, speed: float, band: slice) -> float:
    """The speed of the scenery in a band of rows as a share of the subject's: the shift that the
    rows agree on best.

    Shifts from none to twice the subject's are tried on what is left when the subject and the mean
    of each row are taken away; 0 where it stands still, and 1 where there is nothing to tell by.
    """
    mask = ndimage.binary_dilation(reading.parts[name].mask > 0.2, np.ones((1, 3, 5), bool))
    below = np.maximum.accumulate(mask, axis=1)  # the trunk stands under the crown
    light = reading.clip.lab[..., 0].astype(np.float64)
    free = ~below
    means = (light * free).sum(2) / np.maximum(free.sum(2), 1)
    detail = np.where(free, light - means[:, :, None], 0.0)
    rows = np.sqrt((detail**2).mean((0, 2))) > 0.6
    rows[: band.start] = rows[band.stop :] = False
    if not rows.any() or abs(speed) < 0.2:
        return 1.0
    best = {
        share: _agreement(detail[:, rows], share * speed) for share in np.arange(0.0, 1.81, 0.15)
    }
    still = best[0.0]
    moving = max(value for share, value in best.items() if share > 0.05)
    return float(max(best, key=lambda s: best[s])) if moving > still else 0.0


def _agreement(detail: Floats, speed: float) -> float:
    """Mean correlation of frames some apart once the later one is shifted back by a speed.

    What stands in a row may match its neighbour at one gap, not at all of them.
    """
    found = []
    for gap in GAPS:
        now, later = detail[: len(detail) - gap : 2], detail[gap::2]
        back = ndimage.shift(later, (0, 0, -speed * gap), order=1, mode="constant", prefilter=False)
        found.append((now * back).sum() / np.sqrt(max((now**2).sum() * (back**2).sum(), 1e-9)))
    return float(np.mean(found))
