"""Clips as pictures: twelve frames, what was read in them, and the number that failed."""

import base64
import io
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.physics import detectors
from benchmarks.physics.grading import Graded
from benchmarks.physics.levels import expected
from model.video import read_video

FRAMES, COLUMNS, CELL = 12, 6, 120
SHOWN = 24
NAMES = {
    "K1": "uniform motion", "K2": "gravity", "K3": "collision", "K4": "bounce", "K5": "pendulum",
    "K6": "solidity", "O1": "permanence", "O2": "continuity", "O3": "immutability",
    "B1": "bite", "B2": "bite that stays", "B3": "place of the bite", "L1": "legs", "L2": "gait",
    "F1": "liquid", "T1": "melting", "S1": "left and right", "E1": "order of events",
    "C1": "count", "C2": "colours", "P1": "background", "S2": "speed", "V1": "camera",
    "X1": "text", "R1": "shadow", "A1": "arrow of time",
}  # fmt: skip
INKS = ((255, 60, 60), (60, 200, 255), (255, 220, 60), (140, 255, 120))
FAILED = (230, 0, 60)


def worst(graded: Sequence[Graded], count: int = SHOWN) -> list[Graded]:
    """The failed clips that can be looked at, of each family the worst in turn."""
    families: dict[str, list[Graded]] = {}
    for item in graded:
        if not item.outcome.passed and item.sha and item.outcome.status == "graded":
            families.setdefault(item.outcome.family, []).append(item)
    ranked = [
        (rank, -_badness(item), item.outcome.case_id, item)
        for rows in families.values()
        for rank, item in enumerate(sorted(rows, key=_badness, reverse=True))
    ]
    return [item for *_, item in sorted(ranked, key=lambda row: row[:3])][:count]


def _badness(item: Graded) -> float:
    return max(item.outcome.errors.values(), default=detectors.MOST)


def best_and_median(graded: Sequence[Graded]) -> list[Graded]:
    """Two clips: the one whose largest error is smallest, and the middle one."""
    shown = sorted((g for g in graded if g.outcome.errors and g.sha), key=_badness)
    return [shown[0], shown[len(shown) // 2]] if shown else []


def failing_number(item: Graded, most: int = 4) -> str:
    """What failed, in words: detectors over their bounds, or why nothing could be read."""
    if not item.outcome.measurable:
        return f"not measurable: {item.details.get('reason') or 'nothing found'}"
    ranked = _over(item)[:most]
    return ", ".join(f"{NAMES.get(name, name)} ({name}) {_beyond(v)}" for name, v in ranked) or (
        "passes"
    )


def _over(item: Graded) -> list[tuple[str, float]]:
    """Detectors over their bounds, the worst first."""
    over = [(name, value) for name, value in item.outcome.errors.items() if value > 1]
    return sorted(over, key=lambda pair: -pair[1])


def _beyond(value: float) -> str:
    if value >= detectors.MOST:
        return "finds nothing"
    return "just over its bound" if value < 1.05 else f"{value:.1f} times its bound"


def sheet(item: Graded) -> Image.Image:
    """Twelve frames of a clip with outlines and tracks; frames that show the fault are framed, and
    the one that shows the worst has its detector's number."""
    assert item.clip.path
    frames, fps = read_video(item.clip.path)
    evidence = [f for f in item.details.get("evidence_frames", []) if f < len(frames)]
    chosen = choose(len(frames), evidence)
    overlay = _overlay(item, frames, fps)
    rows = -(-len(chosen) // COLUMNS)
    height = round(CELL * frames.shape[1] / frames.shape[2])
    page = Image.new("RGB", (COLUMNS * CELL, rows * height), "white")
    for place, index in enumerate(chosen):
        cell = cv2.resize(frames[index], (CELL, height), interpolation=cv2.INTER_AREA)
        picture = Image.fromarray(_drawn(cell, overlay, index))
        pen = ImageDraw.Draw(picture)
        pen.text((3, 2), str(index), fill="white", stroke_width=1, stroke_fill="black")
        if index in evidence:
            pen.rectangle((0, 0, CELL - 1, height - 1), outline=FAILED, width=3)
        if index in evidence[:1]:
            pen.text(
                (CELL - 6, height - 7), _stamp(item), "white", ImageFont.load_default(13),
                anchor="rs", stroke_width=2, stroke_fill=FAILED,
            )  # fmt: skip
        page.paste(picture, (place % COLUMNS * CELL, place // COLUMNS * height))
    return page


def _stamp(item: Graded) -> str:
    name, value = _over(item)[0]
    return f"{name} ?" if value >= detectors.MOST else f"{name} {value:.1f}x"


def choose(count: int, evidence: Sequence[int]) -> list[int]:
    """Up to twelve frames, evenly spread, with those that show the fault among them."""
    spread = np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int).tolist()
    for index in evidence[: FRAMES // 2]:
        if index not in spread:
            spread[int(np.argmin(np.abs(np.array(spread) - index)))] = index
    return sorted(set(spread))


Overlay = tuple[list[int], list[tuple[NDArray[np.float32], NDArray[np.float64]]], tuple[int, int]]


def _overlay(item: Graded, frames: NDArray[np.uint8], fps: float) -> Overlay | None:
    """Frames that were read, each thing's masks and centres, and the size that they are in."""
    try:
        family, slots = expected(item.clip.case)
        reading = detectors.read(frames, family, slots, fps)
    except ValueError:
        return None
    things = [(part.mask, part.centre) for part in reading.parts.values()]
    return reading.clip.index.tolist(), things, reading.size


def _drawn(cell: NDArray[np.generic], overlay: Overlay | None, index: int) -> NDArray[np.uint8]:
    picture = np.ascontiguousarray(cell, np.uint8)
    if overlay is None:
        return picture
    read, things, (height, width) = overlay
    t = int(np.argmin(np.abs(np.array(read) - index)))
    scale = np.array([picture.shape[1] / width, picture.shape[0] / height])
    for (mask, centre), ink in zip(things, INKS * 4, strict=False):
        big = cv2.resize(mask[t], picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        outline, _ = cv2.findContours(
            (big > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(picture, outline, -1, ink, 1)
        track = centre[: t + 1]
        track = (track[np.isfinite(track[:, 0])] * scale).round().astype(np.int32)
        if len(track) > 1:
            cv2.polylines(picture, [track], False, ink, 1, cv2.LINE_AA)
        if len(track):
            cv2.circle(picture, tuple(track[-1].tolist()), 2, ink, -1)
    return picture


def data_uri(picture: Image.Image) -> str:
    """A picture as a JPEG inside a page."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
