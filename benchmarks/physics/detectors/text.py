"""X1: the word on a sign is the asked one, and stays."""

from collections import Counter

import numpy as np
from scipy import ndimage

from benchmarks.physics.detectors.clip import Floats
from benchmarks.physics.detectors.font import DOTS, LETTERS
from benchmarks.physics.detectors.parts import pieces
from benchmarks.physics.detectors.reading import ABSENT, Finding, Findings, Reading, worst

PITCH = 6
"""Dots from one letter to the next."""


def writing(reading: Reading) -> Findings:
    """X1: the share of frames that do not read as the asked word, and as the commonest reading."""
    box = paper(reading)
    if box is None:
        return {"X1.word": ABSENT}
    sheet = reading.clip.lab[:, box[0], box[1]]
    inks = written(sheet[..., 0].astype(np.float64))
    words = [spell(ink) for ink in inks]
    usual, times = Counter(words).most_common(1)[0]
    if not usual:
        return {"X1.word": ABSENT}
    wrong = np.array([word != usual for word in words])
    found = {"X1.steady": Finding(float(wrong.mean()), int(wrong.argmax())), **lasting(inks, sheet)}
    if "word" in reading.expect:
        asked = reading.expect["word"].upper()
        errors = np.array([edits(word, asked) / len(asked) for word in words])
        wrong = errors > 0.1
        found["X1.word"] = Finding(float(wrong.mean()), int(wrong.argmax()))
        found["X1.letters"] = Finding(float(np.median(errors)), int(errors.argmax()))
    return found


def written(sheet: Floats) -> Floats:
    """Ink in [0, 1] on paper of some lightness, `(T, h, w)` both."""
    light, dark = (np.quantile(sheet, q, axis=(1, 2), keepdims=True) for q in (0.85, 0.04))
    return np.asarray(np.clip((light - sheet) / np.maximum(light - dark, 20.0), 0.0, 1.0))


def lasting(inks: Floats, sheet: Floats) -> Findings:
    """X1: how far in pixels the ink leaves its usual place, how unlike its usual self it is, as 1
    less their correlation, and how far its colour is from its usual one, Lab."""
    y, x = np.mgrid[: inks.shape[1], : inks.shape[2]]
    ink = np.where(inks > 0.5, inks, 0.0)
    total = np.maximum(ink.sum((1, 2)), 1.0)
    place = np.stack([(ink * x).sum((1, 2)), (ink * y).sum((1, 2))], 1) / total[:, None]
    far = np.hypot(*(place - np.median(place, axis=0)).T)
    flat = inks.reshape(len(inks), -1)
    flat = flat - flat.mean(1, keepdims=True)
    usual = np.median(flat, axis=0)
    norm = np.linalg.norm(flat, axis=1) * np.linalg.norm(usual)
    black = [
        np.median(lab[ink >= 0.8 * ink.max()], axis=0) for lab, ink in zip(sheet, inks, strict=True)
    ]
    return {
        "X1.place": worst(far),
        "X1.change": worst(1.0 - flat @ usual / np.maximum(norm, 1e-6)),
        "X1.colour": worst(np.linalg.norm(black - np.median(black, axis=0), axis=1)),
    }


def paper(reading: Reading) -> tuple[slice, slice] | None:
    """The largest bright and colourless area away from the border, one pixel within its edge."""
    lab = np.median(reading.clip.lab, axis=0)
    bright = (lab[..., 0] > 88.0) & (np.hypot(lab[..., 1], lab[..., 2]) < 18.0)
    labels, sizes = pieces(bright[None])
    sizes[np.unique(labels[0][[0, -1]])] = sizes[np.unique(labels[0][:, [0, -1]])] = 0
    sizes[0] = 0
    if sizes.max() < 100:
        return None
    rows, columns = np.nonzero(labels[0] == int(sizes.argmax()))
    top, bottom = (int(v) for v in np.quantile(rows, (0.02, 0.98)))
    left, right = (int(v) for v in np.quantile(columns, (0.01, 0.99)))
    return slice(top + 1, bottom), slice(left + 1, right)


def spell(ink: Floats) -> str:
    """The letters in ink `(h, w)` in [0, 1], all of one line, by the best place of their grid."""
    rows, columns = ink.max(1) > 0.5, ink.max(0) > 0.5
    if not rows.any():
        return ""
    top, bottom = np.flatnonzero(rows)[[0, -1]]
    left, right = np.flatnonzero(columns)[[0, -1]]
    dot = (bottom + 1 - top) / 7.0
    if dot < 1.2:
        return ""
    best = (-np.inf, "")
    for narrow in np.arange(0.0, 2.6, 0.5):
        first = left - narrow * dot
        count = int(np.ceil((right + 1 - first) / dot / PITCH - 0.15))
        best = max(best, _letters(ink, float(top), float(first), dot, count))
    return best[1]


def _letters(ink: Floats, top: float, left: float, dot: float, count: int) -> tuple[float, str]:
    """Mean agreement and letters of a grid: correlation of dots with those of the best letter."""
    y = top + (np.arange(7) + 0.5) * dot - 0.5
    x = left + (np.arange(count * PITCH) + 0.5) * dot - 0.5
    fine = [np.add.outer(a, np.array([-0.2, 0.2]) * dot).ravel() for a in (y, x)]
    grid = np.stack(np.meshgrid(*fine, indexing="ij"))
    dots = ndimage.map_coordinates(ink, grid, order=1, mode="constant")
    dots = dots.reshape(7, 2, count, PITCH, 2).mean((1, 4)).transpose(1, 0, 2)
    shapes = np.pad(DOTS, ((0, 0), (0, 0), (0, 1)))
    a = dots - dots.mean((1, 2), keepdims=True)
    b = shapes - shapes.mean((1, 2), keepdims=True)
    norm = np.sqrt((a**2).sum((1, 2)))[:, None] * np.sqrt((b**2).sum((1, 2)))
    alike = np.einsum("cij,lij->cl", a, b) / np.maximum(norm, 1e-6)
    return float(alike.max(1).mean()), "".join(LETTERS[k] for k in alike.argmax(1))


def edits(word: str, other: str) -> int:
    """The least number of letters to insert, delete or replace (Levenshtein 1966)."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(word, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
