"""Which frames a judge is shown, and how."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
UNIFORM, CHANGING = 8, 4
LONGEST = 768
"""Pixels of a frame's long side, at most."""
SHEET_COLUMNS, SHEET_CELL = 4, 256


class Shown(NamedTuple):
    """A picture and the line of text in front of it."""

    label: str
    picture: Image.Image


def pick(frames: Pixels) -> list[int]:
    """Up to 12 frames in order: 8 evenly spread, and 4 at the largest changes between frames."""
    spread = np.linspace(0, len(frames) - 1, min(UNIFORM, len(frames))).round().astype(int)
    change = np.abs(np.diff(frames[:, ::4, ::4].astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    left = [t + 1 for t in np.argsort(-change, kind="stable") if t + 1 not in spread]
    return sorted({*spread.tolist(), *(int(t) for t in left[:CHANGING])})


def shown(frames: Pixels, index: int, fps: float, mirrored: bool = False) -> Shown:
    """One frame as a judge sees it, labelled with its number and time."""
    picture = Image.fromarray(frames[index, :, ::-1] if mirrored else frames[index])
    picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    return Shown(f"frame {index}, t={index / fps:.2f}s", picture)


def content(text: str, pictures: Sequence[Shown], as_sheet: bool) -> list[dict[str, Any]]:
    """The parts of a message: the question, then each picture behind its label, or all as one."""
    if as_sheet and len(pictures) > 1:
        labels = ", ".join(f"{n}: {p.label}" for n, p in enumerate(pictures, 1))
        pictures = [Shown(f"A sheet of numbered pictures. {labels}", sheet(pictures))]
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}]
    for label, picture in pictures:
        parts.append({"type": "text", "text": label})
        parts.append({"type": "image_url", "image_url": {"url": data_url(picture)}})
    return parts


def sheet(pictures: Sequence[Shown]) -> Image.Image:
    """Pictures in rows of four, each with its number."""
    rows = -(-len(pictures) // SHEET_COLUMNS)
    page = Image.new("RGB", (SHEET_COLUMNS * SHEET_CELL, rows * SHEET_CELL), "white")
    for number, (_, picture) in enumerate(pictures):
        cell = picture.copy()
        cell.thumbnail((SHEET_CELL, SHEET_CELL), Image.Resampling.LANCZOS)
        place = (number % SHEET_COLUMNS * SHEET_CELL, number // SHEET_COLUMNS * SHEET_CELL)
        page.paste(cell, place)
        pen = ImageDraw.Draw(page)
        pen.text(
            (place[0] + 4, place[1] + 2), str(number + 1), "white", stroke_width=2, stroke_fill=0
        )
    return page


def data_url(picture: Image.Image) -> str:
    """A picture as a JPEG in a URL."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
