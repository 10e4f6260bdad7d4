"""A file to the clips that are in it: cut where the scene changes, scored, with a picture each."""

import base64
import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import cv2
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from training.data.decode import Pixels, Unreadable, Video
from training.data.opened import opened
from training.data.prepare.scores import FrameScores, score_frame, signature, summarise
from training.data.prepare.sources import Source
from training.files import write_whole

WORKING_AREA = 160 * 90
"""Pixels of the frames that are looked at for cuts and scores."""
PICTURE_WIDTH = 96
PICTURES = 4
"""Most of them that are kept of a second, for one that lies within a clip."""


@dataclass(frozen=True)
class CutSettings:
    """How clips are cut.

    Attributes:
        fps: frames a second of every clip.
        frames: most frames of a clip.
        least: fewest frames of a clip; both are 1 + 4k.
    """

    fps: int = 16
    frames: int = 81
    least: int = 17


def inspect(source: Source, settings: CutSettings) -> dict[str, Any]:
    """Cut and score a file, in one pass over it.

    Returns:
        `sha256`, `damage` or None, the file's own shape, and `clips`: a dict each with `reason` for
        one that is none. Where there is no clip at all, `reason` says why.
    """
    digest = None
    try:
        with opened(source.uri) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            file.seek(0)
            return {"sha256": digest, **_look(file, settings)}
    except Unreadable as error:
        return {"sha256": digest, "reason": str(error)}
    except Exception as error:  # every store has errors of its own, and so have broken files
        told = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        return {"sha256": None, "reason": f"cannot be read: {told}"}


def inspect_once(source: Source, settings: CutSettings, kept: Path) -> dict[str, Any]:
    """Inspect a file, and keep what was found in a folder at once: others may take longer."""
    found = inspect(source, settings)
    if found["sha256"]:
        write_whole(kept / f"{source.key}.json", json.dumps(found).encode())
    return found


def _look(file: BinaryIO, settings: CutSettings) -> dict[str, Any]:
    with Video(file) as video:
        probe = video.probe()
        look = _Look(settings)
        origin: Fraction | None = None
        for time, frame in video.seen(Fraction(settings.fps), _to_working_size):
            origin = time if origin is None else origin
            look.see(frame)
        damage = video.damage
    seconds = look.count / settings.fps
    ends = (seconds, seconds + float(origin or 0))  # some count from 0, some from the first frame
    slack = 0.1 * (probe.seconds or 0) + 0.5
    if damage is None and probe.seconds and all(abs(probe.seconds - t) > slack for t in ends):
        damage = f"says {probe.seconds:.2f} s"
    clips = look.clips()
    told = {
        "origin": str(origin),
        "damage": None if damage is None else f"{damage}; decoded are {seconds:.2f} s",
        "source_width": probe.width,
        "source_height": probe.height,
        "source_fps": probe.fps,
        "codec": probe.codec,
        "transfer": probe.transfer,
        "audio": probe.audio,
        "clips": clips,
    }
    return told if clips else told | {"reason": "no frame can be decoded"}


class _Look:
    """One pass over the frames; of those whose clip is known it holds what is told of the clip."""

    def __init__(self, settings: CutSettings) -> None:
        self.count = 0
        self._settings = settings
        self._between = max(1, settings.fps // PICTURES)
        self._detector = AdaptiveDetector(min_scene_len=3)
        self._before: Any = None
        self._clips: list[dict[str, Any]] = []
        self._first = (
            0  # of the frames that are in no clip yet, whose scores and pictures are these
        )
        self._scores: list[FrameScores] = []
        self._pictures: dict[int, bytes] = {}

    def see(self, frame: Pixels) -> None:
        """Take the next frame."""
        place = FrameTimecode(self.count, float(self._settings.fps))
        cuts = self._detector.process_frame(place, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        if self.count % self._between == 0:
            self._pictures[self.count // self._between] = _picture(frame)
        scores, self._before = score_frame(frame, self._before)
        self._scores.append(scores)
        self.count += 1
        for cut in cuts:
            self._close(cut.frame_num)
        # A cut is told so many frames later; before them there is none that was not told.
        if len(self._scores) - self._detector.event_buffer_length > self._settings.frames:
            self._close(self._first + self._settings.frames)

    def clips(self) -> list[dict[str, Any]]:
        """The clips, in the order of time; together they are all the frames there are."""
        end = FrameTimecode(self.count, float(self._settings.fps))
        for cut in self._detector.post_process(end):
            self._close(cut.frame_num)
        self._close(self.count)
        return self._clips

    def _close(self, stop: int) -> None:
        """Make clips of all frames before `stop`, and forget the frames."""
        while self._first < stop:
            last = min(self._first + self._settings.frames, stop)
            self._clips.append(self._clip(last))
            del self._scores[: last - self._first]
            self._first = last
        kept = self._first // self._between
        self._pictures = {k: picture for k, picture in self._pictures.items() if k >= kept}

    def _clip(self, stop: int) -> dict[str, Any]:
        first = self._first
        frames = self._scores[: stop - first]
        hashes = signature(frames)
        kept = (stop - first - 1) // 4 * 4 + 1
        picture = self._pictures[(first + stop - 1) // 2 // self._between]
        clip: dict[str, Any] = {
            "first": first,
            "frames": kept,
            "signature": hashes,
            "picture": base64.b64encode(picture).decode(),
            **summarise(frames, self._settings.fps),
        }
        if kept < self._settings.least:
            return clip | {"reason": f"shorter than {self._settings.least} frames"}
        return clip


def _to_working_size(width: int, height: int) -> tuple[int, int]:
    scale = min(1.0, (WORKING_AREA / (width * height)) ** 0.5)
    return max(16, round(width * scale)), max(16, round(height * scale))


def _picture(frame: Pixels) -> bytes:
    """A small JPEG, 96 pixels wide."""
    height = max(1, round(frame.shape[0] * PICTURE_WIDTH / frame.shape[1]))
    small = cv2.resize(frame, (PICTURE_WIDTH, min(height, 3 * PICTURE_WIDTH)))
    good, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    assert good
    return bytes(data)
