"""A scripted `/v1/videos` server: it makes what it is told, fails what it is told, and counts."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from tests.benchmarks.physics.scripted import ScriptedHandler, running

Body = dict[str, Any]


class Script:
    """What the server does.

    `make` gives a clip's bytes and `warn` what is said of it; `error` gives a failed job's error,
    `refuse` the message of a request that is turned down with `status`. `calls` counts requests by
    method.
    """

    def __init__(self, make: Callable[[Body], bytes]) -> None:
        self.make = make
        self.error: Callable[[Body], Body | None] = lambda body: None
        self.refuse: Callable[[Body], str | None] = lambda body: None
        self.status = 400
        self.warn: Callable[[Body], list[str]] = lambda body: []
        self.jobs: dict[str, Body] = {}
        self.polls: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()


class Handler(ScriptedHandler):
    script: Script

    def answer(self, status: int, body: Body) -> None:
        self.send(status, json.dumps(body).encode())

    def do_POST(self) -> None:
        script = self.script
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with script.lock:
            script.calls["POST"] += 1
            if message := script.refuse(body):
                error = {"message": message, "code": "refused"}
                return self.answer(script.status, {"error": error})
            video_id = f"video_{script.calls['POST']}"
            script.jobs[video_id] = body
            script.at_once += 1
            script.most_at_once = max(script.most_at_once, script.at_once)
        self.answer(200, {"id": video_id, "object": "video", "status": "queued"})

    def do_GET(self) -> None:
        script = self.script
        _, _, _, video_id, *rest = self.path.split("?")[0].split("/")
        if video_id not in script.jobs:
            return self.answer(404, {"error": {"message": f"there is no {video_id}"}})
        body = script.jobs[video_id]
        if rest == ["content"]:
            script.calls["content"] += 1
            return self.send(200, script.make(body), "video/mp4")
        script.calls["GET"] += 1
        script.polls[video_id] += 1
        if script.polls[video_id] < 2:  # a job is never ready at once
            return self.answer(200, {"id": video_id, "status": "in_progress"})
        with script.lock:
            script.at_once -= script.polls[video_id] == 2
        error = script.error(body)
        status = "failed" if error else "completed"
        answer = {"id": video_id, "status": status, "error": error, "warnings": script.warn(body)}
        self.answer(200, answer)


def serving(script: Script) -> AbstractContextManager[str]:
    """Run the script on a free port; gives the base URL."""
    return running(Handler, script)
