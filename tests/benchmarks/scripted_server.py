"""A `/v1/videos` server whose every delay is known, in time that passes when all wait for it."""

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

import httpx

T = TypeVar("T")
DOWNLOAD = 0.05
"""Seconds that it takes to fetch a file."""


class _Selector(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer in place of waiting for it."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._virtual.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(coroutine)


@dataclass
class Job:
    """When it came, when work on it began and ended, and what it was asked with."""

    arrival: float
    start: float
    finish: float
    body: str
    failed: bool


@dataclass
class ScriptedServer:
    """One worker, first come, first served.

    Attributes:
        service: seconds that the n-th job takes.
        stall: from when to when the worker stands still.
        fails: whether the n-th job fails at its end.
    """

    service: Callable[[int], float]
    stall: tuple[float, float] = (0.0, 0.0)
    fails: Callable[[int], bool] = lambda n: False
    jobs: list[Job] = field(default_factory=list)

    def transport(self) -> httpx.MockTransport:
        """How a client reaches it."""
        return httpx.MockTransport(self._answer)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        now = asyncio.get_running_loop().time()
        parts = request.url.path.strip("/").split("/")
        if request.method == "POST":
            number = len(self.jobs)
            self.jobs.append(self._job(now, number, (await request.aread()).decode()))
            return self._told(number, now)
        job = self.jobs[int(parts[2])]
        if len(parts) == 3:
            return self._told(int(parts[2]), now)
        assert parts[3] == "content" and now >= job.finish and not job.failed
        await asyncio.sleep(DOWNLOAD)
        return httpx.Response(200, content=b"mp4")

    def _job(self, now: float, number: int, body: str) -> Job:
        begin, end = self.stall
        start = max([now, *(job.finish for job in self.jobs[-1:])])
        start = end if begin <= start < end else start
        finish = start + self.service(number)
        finish += end - begin if start < begin < finish else 0
        return Job(now, start, finish, unquote(body), self.fails(number))

    def _told(self, number: int, now: float) -> httpx.Response:
        job = self.jobs[number]
        status = "queued" if now < job.start else "in_progress"
        if now >= job.finish:
            status = "failed" if job.failed else "completed"
        video: dict[str, Any] = {"id": str(number), "status": status, "seconds": "2"}
        if status == "completed":
            spent = job.finish - job.start
            video |= {"timings": {"denoise": 0.75 * spent, "decode": 0.25 * spent}}
            video |= {"num_inference_steps": 10, "num_frames": 17}
        return httpx.Response(200, content=json.dumps(video))
