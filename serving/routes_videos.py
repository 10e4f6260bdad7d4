"""Routes about videos that were asked for: how they stand, their files, their end."""

from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from serving.answers import Verification, Video, VideoDeleted, VideoPage
from serving.body import parsed
from serving.context import Parts, VideoId, authorized
from serving.download import send
from serving.events import PING_SECONDS, follow, mark
from serving.files import VARIANTS
from serving.openapi import body, query
from serving.routes_create import tell_poll_interval
from serving.schema import GetContent, GetEvents, ListVideos, VerifyVideo
from serving.tables import UNFINISHED

router = APIRouter(prefix="/v1/videos", tags=["Videos"])
_FILE: dict[str, Any] = {"content": {kind: {} for _, kind in VARIANTS.values()}}


@router.get("", openapi_extra=query(ListVideos))
def list_videos(request: Request, parts: Parts) -> VideoPage:
    """A page of the videos."""
    return parts.page(ListVideos.parse(request.query_params))


@router.post("/verify", openapi_extra=body(VerifyVideo), dependencies=[Depends(authorized)])
async def verify_video(request: Request, parts: Parts) -> Verification:
    """Who made a video, by the manifest that it carries, and whether that can be believed."""
    async with parsed(request, VerifyVideo) as asked:
        return await run_in_threadpool(parts.verify, asked)


@router.get("/{video_id}")
def get_video(video_id: VideoId, response: Response, parts: Parts) -> Video:
    """How a job stands."""
    return tell_poll_interval(response, parts.look(video_id))


@router.delete("/{video_id}")
def delete_video(video_id: VideoId, parts: Parts) -> VideoDeleted:
    """Forget a video and its files; a job that is not over is stopped."""
    parts.delete(video_id)
    return VideoDeleted(id=video_id)


@router.post("/{video_id}/cancel")
def cancel_video(video_id: VideoId, parts: Parts) -> Video:
    """Stop a job; safe to repeat, and without effect on one that is over."""
    return parts.cancel(video_id)


@router.head("/{video_id}/content", include_in_schema=False)
@router.get(
    "/{video_id}/content",
    openapi_extra=query(GetContent),
    response_class=FileResponse,
    responses={
        200: _FILE | {"description": "The file."},
        206: _FILE | {"description": "The range of it that was asked."},
        304: {"description": "The file is the one whose ETag was sent."},
    },
)
def get_content(video_id: VideoId, request: Request, parts: Parts) -> Response:
    """A finished video, its thumbnail or its sprite sheet; whole, or a range of it."""
    variant = GetContent.parse(request.query_params).variant
    row = parts.finished(video_id)
    etag = f'"{video_id}-{row["attempt"]}-{variant}"'
    headers = {"etag": etag, "cache-control": "private, max-age=31536000, immutable"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return send(parts.files, row, variant, request, headers)


@router.get(
    "/{video_id}/events",
    openapi_extra=query(GetEvents),
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "One event a change."},
        204: {"description": "It is over, and the client has seen so by its Last-Event-ID."},
    },
)
async def get_events(video_id: VideoId, request: Request, parts: Parts) -> Response:
    """How a job goes on, as server-sent events that end when it is over."""
    preview = GetEvents.parse(request.query_params).preview
    row = await run_in_threadpool(parts.get, video_id)
    video = await run_in_threadpool(parts.view, row)
    last_seen = request.headers.get("last-event-id")
    if video.status not in UNFINISHED and mark(row, video) == last_seen:
        return Response(status_code=204)  # which tells a browser to stop asking
    return EventSourceResponse(follow(parts, video_id, last_seen, preview), ping=PING_SECONDS)
