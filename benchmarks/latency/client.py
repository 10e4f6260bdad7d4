"""One video asked of a `/v1/videos` server, and when what happened; times are the event loop's."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx

POLL = (0.02, 0.02, 0.25)
"""Seconds between polls: at first, as a share of what has passed, and at most."""
ENDED = ("completed", "failed", "cancelled", "expired")


@dataclass(frozen=True)
class Order:
    """What to ask for.

    Attributes:
        intended: when it ought to be sent, in seconds from the beginning of the run.
        fields: the body of the request.
    """

    intended: float
    fields: dict[str, Any]


@dataclass
class Sample:
    """What became of an order; times in seconds from the beginning of the run.

    Attributes:
        completed: halfway between the poll that first saw it so and the one before.
        poll: half of what lies between those two: by so much `completed` may be off.
        first_byte, last_byte: of the file, had it been asked for as soon as it was there.
        outcome: "completed", "failed", "refused" (before or after it was taken) or "timeout".
        timings: seconds of each stage, where the server tells them.
        seconds, frames, size, guidance: of the video, where the server tells them.
    """

    prompt: str
    intended: float
    sent: float = 0.0
    accepted: float | None = None
    started: float | None = None
    completed: float | None = None
    poll: float = 0.0
    first_byte: float | None = None
    last_byte: float | None = None
    outcome: str = "timeout"
    error: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    steps: int | None = None
    seconds: float | None = None
    frames: int | None = None
    size: str | None = None
    guidance: float | None = None

    @property
    def delivered(self) -> float | None:
        """From when it ought to have been sent until the file was there."""
        return None if self.last_byte is None else self.last_byte - self.intended

    @property
    def generation(self) -> float | None:
        """From when it was taken until it was complete."""
        if self.completed is None or self.accepted is None:
            return None
        return self.completed - self.accepted

    @property
    def queued(self) -> float | None:
        """From when it was taken until work on it was seen."""
        if self.started is None or self.accepted is None:
            return None
        return max(0.0, self.started - self.accepted)


async def ask(
    http: httpx.AsyncClient,
    order: Order,
    begin: float,
    timeout: float,
    content: bytearray | None = None,
) -> Sample:
    """Send an order at its time, wait for the video, and fetch it, into `content` if given."""
    now = asyncio.get_running_loop().time
    sample = Sample(str(order.fields["prompt"]), order.intended)
    await asyncio.sleep(begin + order.intended - now())
    sample.sent = now() - begin
    try:
        async with asyncio.timeout(timeout):
            form = {name: (None, str(value)) for name, value in order.fields.items()}
            response = await http.post("videos", files=form)
            if response.is_success:
                sample.accepted = now() - begin
                await _follow(http, response.json(), sample, begin, content)
            else:
                sample.outcome = "refused" if response.status_code < 500 else "failed"
                sample.error = f"{response.status_code} {response.text:.200}"
    except TimeoutError:
        sample.error = f"not there after {timeout:g} s"
    except httpx.HTTPError as error:
        sample.outcome, sample.error = "failed", repr(error)
    return sample


async def _follow(
    http: httpx.AsyncClient, video: dict[str, Any], sample: Sample, begin: float,
    content: bytearray | None,
) -> None:  # fmt: skip
    now = asyncio.get_running_loop().time
    first, share, most = POLL
    before = seen = now()
    while True:
        if sample.started is None and video["status"] != "queued":
            sample.started = (before + seen) / 2 - begin
        if video["status"] in ENDED:
            break
        await asyncio.sleep(min(most, max(first, share * (now() - begin - sample.sent))))
        before, seen = seen, now()
        response = await http.get(f"videos/{video['id']}")
        response.raise_for_status()
        video = response.json()
    if video["status"] != "completed":
        error = video.get("error") or {}
        refused = "moderation" in str(error.get("code")) or "policy" in str(error.get("code"))
        sample.outcome, sample.error = "refused" if refused else "failed", str(error)
        return
    sample.completed, sample.poll = (before + seen) / 2 - begin, (seen - before) / 2
    sample.timings = dict(video.get("timings") or {})
    sample.steps = video.get("num_inference_steps")
    sample.seconds, sample.frames = _number(video.get("seconds")), video.get("num_frames")
    sample.size = video.get("rendered_size") or video.get("size")
    sample.guidance = _number(video.get("guidance_scale"))
    asked = now()
    async with http.stream("GET", f"videos/{video['id']}/content") as response:
        response.raise_for_status()
        async for part in response.aiter_bytes():
            if content is not None:
                content += part
            if sample.first_byte is None:
                sample.first_byte = sample.completed + now() - asked
    sample.last_byte = sample.completed + now() - asked
    sample.outcome = "completed"


def _number(told: Any) -> float | None:
    try:
        return float(told)
    except (TypeError, ValueError):
        return None
