"""How a job goes on, as server-sent events: one whenever something changed, until it is over."""

import base64
import json
from collections.abc import AsyncIterator

import anyio
from sse_starlette import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from serving.answers import Video
from serving.database import UNAVAILABLE
from serving.errors import ApiError
from serving.previews import Preview
from serving.service import Service
from serving.tables import IN_PROGRESS, UNFINISHED, Row

LOOK_SECONDS = 0.25
"""How often the job's row is looked at."""
PING_SECONDS = 15
"""How often a comment says that the connection still stands."""


def mark(row: Row, video: Video) -> str:
    """The id of the event that tells this state: the same state again needs no telling."""
    place = video.queue_position if video.queue_position is not None else row["step"]
    return f"{row['attempt']}-{video.status}-{place}-{video.progress}"


async def follow(
    service: Service, video_id: str, last_seen: str | None, preview: bool = False
) -> AsyncIterator[ServerSentEvent]:
    """Events named `video.<status>`, with the Video as data, and `video.deleted` if it is deleted.

    last_seen: the Last-Event-ID of a client that was here before. preview: whether `video.preview`
    also tells how it looks so far.
    """
    shown: Preview | None = None
    while True:
        drawn: Preview | None = None
        try:
            row = await run_in_threadpool(service.get, video_id)
            video = await run_in_threadpool(service.view, row)
            if preview and video.status == IN_PROGRESS:
                drawn = await run_in_threadpool(service.previews.look, video_id, shown)
        except ApiError:
            yield ServerSentEvent(f'{{"id": "{video_id}"}}', event="video.deleted")
            return
        except UNAVAILABLE:  # it may come back; pings go on meanwhile
            await anyio.sleep(LOOK_SECONDS)
            continue
        if (now := mark(row, video)) != last_seen:
            yield ServerSentEvent(video.model_dump_json(), event=f"video.{video.status}", id=now)
            last_seen = now
        if drawn:
            yield ServerSentEvent(_told(video_id, drawn), event="video.preview")
            shown = drawn
        if video.status not in UNFINISHED:
            return
        await anyio.sleep(LOOK_SECONDS)


def _told(video_id: str, preview: Preview) -> str:
    image = f"data:image/webp;base64,{base64.b64encode(preview.image).decode()}"
    return json.dumps({"id": video_id, "step": preview.step, "image": image})
