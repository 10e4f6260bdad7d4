"""Routes that make a video. Each takes JSON or a form, and an Idempotency-Key."""

from contextlib import suppress
from typing import Annotated, NoReturn

from anyio import sleep
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import FileResponse
from starlette.concurrency import run_in_threadpool

from serving.answers import Video
from serving.body import drain, parsed
from serving.context import Asker, Parts, VideoId, authorized
from serving.database import UNAVAILABLE
from serving.download import send
from serving.errors import ApiError, not_supported
from serving.openapi import body
from serving.schema import CreateCharacter, CreateVideo, EditVideo, ExtendVideo, RemixVideo
from serving.tables import UNFINISHED

POLL_MILLISECONDS = 250, 5000
"""Least and most that a client is told to wait between two looks at a job."""
SYNC_SECONDS = 0.25
"""How often a job that a client waits for is looked at."""
FAILURES = {"cancelled": 409, "invalid_request": 400}
"""Status of an answer that waited for a job which failed in this way; of any other it is 500."""

CharacterId = Annotated[
    str, Path(description="Which character. Must be an id; there are none.", examples=["char_1"])
]

router = APIRouter(prefix="/v1/videos", tags=["Make videos"], dependencies=[Depends(authorized)])


@router.post("", openapi_extra=body(CreateVideo))
async def create_video(request: Request, response: Response, parts: Parts, asker: Asker) -> Video:
    """Queue a video."""
    async with parsed(request, CreateVideo) as asked:
        video = await run_in_threadpool(parts.create, asked, asker)
    return tell_poll_interval(response, video)


@router.post(
    "/sync",
    openapi_extra=body(CreateVideo),
    response_class=FileResponse,
    responses={200: {"content": {"video/mp4": {}}, "description": "The MP4."}},
)
async def create_and_wait(request: Request, parts: Parts, asker: Asker) -> Response:
    """Make a video and answer with its MP4; to hang up is to cancel."""
    async with parsed(request, CreateVideo) as asked:
        video = await run_in_threadpool(parts.create, asked, asker)
    while video.status in UNFINISHED:
        await sleep(SYNC_SECONDS)
        look = parts.cancel if await request.is_disconnected() else parts.look
        with suppress(*UNAVAILABLE):  # it may come back, and the job goes on meanwhile
            video = await run_in_threadpool(look, video.id)
    about = {"x-video-id": video.id}
    if video.error is not None:
        status = FAILURES.get(video.error.code, 500)
        headers = about | {"x-should-retry": "false"}
        raise ApiError(video.error.message, code=video.error.code, status=status, headers=headers)
    row = await run_in_threadpool(parts.finished, video.id)
    return await run_in_threadpool(send, parts.files, row, "video", request, about)


@router.post("/edits", openapi_extra=body(EditVideo))
async def edit_video(request: Request, response: Response, parts: Parts, asker: Asker) -> Video:
    """Queue a video that starts from an uploaded or completed one."""
    async with parsed(request, EditVideo) as asked:
        video = await run_in_threadpool(parts.edit, asked, asker)
    return tell_poll_interval(response, video)


@router.post("/extensions", openapi_extra=body(ExtendVideo))
async def extend_video(request: Request, response: Response, parts: Parts, asker: Asker) -> Video:
    """Queue a video that goes on from the end of one, and may lead into another."""
    models = await run_in_threadpool(parts.models)
    if not any({"extend", "join"} & {*model["capabilities"]} for model in models):
        await drain(request)
        raise not_supported("No served model can extend a video.")
    async with parsed(request, ExtendVideo) as asked:
        video = await run_in_threadpool(parts.extend, asked, asker)
    return tell_poll_interval(response, video)


@router.post("/characters", openapi_extra=body(CreateCharacter), response_model=Video)
async def create_character(request: Request) -> NoReturn:
    """Learn a character: no served model can, so it is refused."""
    await drain(request)
    raise not_supported("No served model can learn a character.")


@router.get("/characters/{character_id}", response_model=Video)
def get_character(character_id: CharacterId) -> NoReturn:
    """Look a character up: no served model can learn one, so it is refused."""
    raise not_supported("No served model can learn a character.")


@router.post("/{video_id}/remix", openapi_extra=body(RemixVideo))
async def remix_video(
    video_id: VideoId, request: Request, response: Response, parts: Parts, asker: Asker
) -> Video:
    """Queue a video that starts from a completed one, after another prompt."""
    async with parsed(request, RemixVideo) as asked:
        video = await run_in_threadpool(parts.remix, video_id, asked, asker)
    return tell_poll_interval(response, video)


def tell_poll_interval(response: Response, video: Video) -> Video:
    """Have a client look about twenty times a job, and not more often than makes sense."""
    if video.status in UNFINISHED:
        least, most = POLL_MILLISECONDS
        wait = least if video.eta_seconds is None else int(video.eta_seconds * 50)
        response.headers["openai-poll-after-ms"] = str(min(max(wait, least), most))
    return video
