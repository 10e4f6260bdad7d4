"""A scripted judge: an OpenAI-compatible chat endpoint that answers as it is told.

It knows the clips that it will be shown by their pictures, which it matches by their small
thumbnails, and may be right, blind, biased or unable to take several pictures.
"""

import base64
import io
import json
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks.physics.scripted import ScriptedHandler, running


@dataclass
class Question:
    """What the judge was asked: the text, and the pictures behind their labels."""

    text: str
    pictures: list[Image.Image]


@dataclass
class Script:
    """`answer` gives the answer to a question; `most_pictures` and `logprob` what it supports."""

    answer: Callable[[Question], str]
    most_pictures: int = 100
    logprob: float | None = None
    asked: list[Question] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def question_of(body: dict[str, Any]) -> Question:
    parts = body["messages"][-1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert all(url.startswith("data:image/jpeg;base64,") for url in urls)
    pictures = [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) for url in urls]
    return Question("\n".join(p["text"] for p in parts if p["type"] == "text"), pictures)


class Handler(ScriptedHandler):
    script: Script

    def reply(self, status: int, body: dict[str, Any]) -> None:
        self.send(status, json.dumps(body).encode())

    def do_POST(self) -> None:
        assert self.path.endswith("/chat/completions")
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        script, question = self.script, question_of(body)
        assert body["temperature"] == 0
        if len(question.pictures) > script.most_pictures:
            return self.reply(400, {"error": {"message": "too many images"}})
        if body.get("logprobs") and script.logprob is None:
            return self.reply(400, {"error": {"message": "logprobs is not supported"}})
        with script.lock:
            script.asked.append(question)
        answer = script.answer(question)
        text = f'I looked. {{"answer": "{answer}"}}'
        choice: dict[str, Any] = {
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": text},
        }  # fmt: skip
        if script.logprob is not None:
            tokens = [('{"answer": "', -0.001), (answer, script.logprob), ('"}', -0.001)]
            listed = [{"token": t, "logprob": p, "bytes": None, "top_logprobs": []}
                      for t, p in tokens]  # fmt: skip
            choice["logprobs"] = {"content": listed}
        usage = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
        self.reply(200, {"id": "x", "object": "chat.completion", "created": 0, "model": "m",
                         "choices": [choice], "usage": usage})  # fmt: skip


def serving(script: Script) -> AbstractContextManager[str]:
    """Run the judge on a free port; gives the base URL."""
    return running(Handler, script)


def brightness(picture: Image.Image) -> float:
    """The mean grey level of a picture."""
    return float(np.asarray(picture.convert("L"), float).mean())


def certain(share: float) -> float:
    """The log-probability of a share."""
    return math.log(share)
