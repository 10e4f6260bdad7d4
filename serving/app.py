"""The routes. This process never holds a model: it reads rows, enqueues jobs and sends files."""

import html
import string
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from serving.body import read_fields
from serving.errors import ApiError, Envelope, not_supported, on_api_error, on_http_exception
from serving.models import ALIASES
from serving.schema import CreateVideo, GetContent, ListVideos, Video, VideoDeleted, VideoPage
from serving.service import Service

POLL_MILLISECONDS = 250, 5000
"""Least and most that a client is told to wait between two looks at a job."""
LONGEST_KEY = 255
"""Characters of an Idempotency-Key."""
PAGE = string.Template((Path(__file__).parent / "page" / "index.html").read_text("utf-8"))

router = APIRouter()


def create_app(service: Service) -> FastAPI:
    """The ASGI application over the parts in `service`."""
    app = FastAPI(title="Kinetograph", docs_url=None, redoc_url=None)
    app.state.service = service
    app.include_router(router)
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_middleware(Envelope)
    return app


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Parts = Annotated[Service, Depends(_service)]


@router.post("/v1/videos")
async def create_video(request: Request, response: Response, service: Parts) -> Video:
    """Queue a video."""
    key = request.headers.get("idempotency-key")
    if key and len(key) > LONGEST_KEY:
        message = f"Idempotency-Key must be at most {LONGEST_KEY} characters, not {len(key)}."
        raise ApiError(message, param="Idempotency-Key")
    fields = CreateVideo.parse(await read_fields(request))
    video = await run_in_threadpool(service.create, fields, key)
    _tell_poll_interval(response, video)
    return video


@router.post("/v1/videos/edits")
@router.post("/v1/videos/extensions")
@router.post("/v1/videos/characters")
@router.get("/v1/videos/characters/{character_id}")
@router.post("/v1/videos/{video_id}/remix")
def not_built(request: Request) -> None:
    """Parts of the API that no served checkpoint can do."""
    path = request.url.path
    raise not_supported(f"{request.method} {path} is not supported by this service.")


@router.get("/v1/videos")
def list_videos(request: Request, service: Parts) -> VideoPage:
    """A page of the videos."""
    return service.page(ListVideos.parse(request.query_params))


@router.get("/v1/videos/{video_id}")
def get_video(video_id: str, response: Response, service: Parts) -> Video:
    """How a job stands."""
    video = service.view(service.get(video_id))
    _tell_poll_interval(response, video)
    return video


@router.delete("/v1/videos/{video_id}")
def delete_video(video_id: str, service: Parts) -> VideoDeleted:
    """Forget a video and its files."""
    service.delete(video_id)
    return VideoDeleted(id=video_id)


@router.post("/v1/videos/{video_id}/cancel")
def cancel_video(video_id: str, service: Parts) -> Video:
    """Stop a job; safe to repeat, and without effect on one that is over."""
    return service.cancel(video_id)


@router.api_route("/v1/videos/{video_id}/content", methods=["GET", "HEAD"])
def get_content(video_id: str, request: Request, service: Parts) -> Response:
    """A finished video, its thumbnail or its sprite sheet; whole, or a range of it."""
    variant = GetContent.parse(request.query_params).variant
    path, media_type, etag = service.artifact(service.get(video_id), variant)
    headers = {"etag": etag, "cache-control": "private, max-age=31536000, immutable"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type=media_type)


@router.get("/v1/models")
def list_models(service: Parts) -> dict[str, Any]:
    """What is served, the default first."""
    rows = service.store.models()
    entries = [_model_entry(row, default=i == 0) for i, row in enumerate(rows)]
    return {"object": "list", "data": entries}


@router.get("/v1/models/{name}")
def get_model(name: str, service: Parts) -> dict[str, Any]:
    """One served model, by its name or an alias."""
    for entry in list_models(service)["data"]:
        if name == entry["id"] or name in entry["aliases"]:
            return dict(entry)
    message = f"There is no model {name[:80]!a}."
    raise ApiError(message, param="model", code="model_not_found", status=404)


def _model_entry(row: Any, default: bool) -> dict[str, Any]:
    described = {key: value for key, value in row["description"].items() if key != "name"}
    return {
        "id": row["description"]["name"],
        "object": "model",
        "created": int(row["loaded_at"]),
        "owned_by": "kinetograph",
        "aliases": list(ALIASES) if default else [],
        **described,
    }


@router.get("/healthz")
def health() -> dict[str, str]:
    """Whether this process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def ready(service: Parts) -> dict[str, str]:
    """Whether a job that is queued now would be run."""
    service.check_ready()
    return {"status": "ready"}


@router.get("/")
def page(request: Request, service: Parts) -> HTMLResponse:
    """What this is, for a person with a browser."""
    rows = service.store.models()
    model = rows[0]["description"]["name"] if rows else "one that is still being loaded"
    known = rows[0]["description"]["examples"] if rows else None
    examples: list[str] = known or ["A cat walks along a wall in the evening sun"]
    items = "\n".join(f"<li>{html.escape(example)}</li>" for example in examples[:8])
    return HTMLResponse(
        PAGE.substitute(
            url=html.escape(str(request.base_url).rstrip("/")),
            model=html.escape(model),
            prompt=html.escape(examples[0]),
            examples=items,
        )
    )


def _tell_poll_interval(response: Response, video: Video) -> None:
    """Have a client look about twenty times a job, and not more often than makes sense."""
    if video.status in ("queued", "in_progress"):
        least, most = POLL_MILLISECONDS
        wait = least if video.eta_seconds is None else int(video.eta_seconds * 50)
        response.headers["openai-poll-after-ms"] = str(min(max(wait, least), most))
