"""Captions by any endpoint that speaks OpenAI's chat protocol and sees pictures."""

import base64
import hashlib
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import httpx

from training.data.clips import fitted, read_clip
from training.files import write_whole

INSTRUCTIONS = (
    "These are frames of one short video, in order. Describe in one or two sentences what is to be "
    "seen, how it moves, and how the camera moves. Begin with the subject, and write nothing else."
)
FRAMES, SIDE = 4, 512
"""How many pictures of a clip are shown, and their longest side, in pixels."""
TRIES = 5
PAUSE = 1.0
"""Seconds before the second try; it doubles with each."""


class CaptionError(RuntimeError):
    """An endpoint that does not answer as it should, after all tries; what it said is kept."""


@dataclass(frozen=True)
class Captioner:
    """An endpoint.

    Attributes:
        url: in front of `/chat/completions`.
        model: one of the endpoint's, that sees.
        key: for the header `Authorization`, or empty.
        instructions: what it is told to do.
    """

    url: str
    model: str
    key: str = ""
    instructions: str = INSTRUCTIONS

    def name(self, clip: dict[str, Any], fps: int) -> str:
        """Of the file that keeps what this captioner says of a clip."""
        told = json.dumps([self.model, self.instructions, FRAMES, SIDE, clip["frames"], fps])
        return f"{clip['id']}-{hashlib.blake2b(told.encode(), digest_size=6).hexdigest()}.json"

    def ask(self, client: httpx.Client, clip: dict[str, Any], fps: int) -> str:
        """Describe a clip.

        Raises:
            CaptionError: after all tries, or at once for what another try does not mend.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": self.instructions}]
        for picture in _pictures(clip, fps):
            content.append({"type": "image_url", "image_url": {"url": picture}})
        body = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                answer = client.post(f"{self.url.rstrip('/')}/chat/completions", json=body)
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if answer.status_code == 200:
                return _text(answer)
            problem = f"HTTP {answer.status_code}: {answer.text[:200]}"
            if answer.status_code < 500 and answer.status_code not in (408, 429):
                break
        raise CaptionError(f"{self.url}: {problem}")


def caption(
    captioner: Captioner, clips: Iterable[dict[str, Any]], kept: Path, fps: int, threads: int
) -> Iterator[tuple[dict[str, Any], str | CaptionError]]:
    """Yield each clip with its caption, or with why there is none; answers are kept in a folder."""
    headers = {"Authorization": f"Bearer {captioner.key}"} if captioner.key else {}
    kept.mkdir(parents=True, exist_ok=True)

    with httpx.Client(headers=headers, timeout=120) as client, ThreadPoolExecutor(threads) as pool:

        def one(clip: dict[str, Any]) -> tuple[dict[str, Any], str | CaptionError]:
            file = kept / captioner.name(clip, fps)
            if not file.exists():
                try:
                    write_whole(file, json.dumps(captioner.ask(client, clip, fps)).encode())
                except CaptionError as error:
                    return clip, error
            return clip, str(json.loads(file.read_bytes()))

        yield from pool.map(one, clips)


def _text(answer: httpx.Response) -> str:
    try:
        text = str(answer.json()["choices"][0]["message"]["content"]).strip()
    except (ValueError, LookupError, TypeError):
        text = ""
    if not text:
        raise CaptionError(f"{answer.url}: an answer without text: {answer.text[:200]}")
    return " ".join(text.split())


def _pictures(clip: dict[str, Any], fps: int) -> list[str]:
    """Frames of a clip as data URLs of JPEG."""
    frames = read_clip(clip, Fraction(fps), lambda w, h: fitted(w, h, SIDE * SIDE, 2))
    chosen = [frames[round(k * (len(frames) - 1) / (FRAMES - 1))] for k in range(FRAMES)]
    urls = []
    for frame in chosen:
        _, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        urls.append(f"data:image/jpeg;base64,{base64.b64encode(bytes(data)).decode()}")
    return urls
