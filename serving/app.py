"""The ASGI application. This process holds no model: it reads rows, queues jobs, sends files."""

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from serving import routes_create, routes_models, routes_page, routes_videos
from serving.database import UNAVAILABLE
from serving.errors import (
    ApiError,
    Envelope,
    on_api_error,
    on_database_unavailable,
    on_http_exception,
    on_os_error,
)
from serving.openapi import REFUSALS, publish
from serving.service import Service


def create_app(service: Service) -> FastAPI:
    """The application over the parts in `service`."""
    app = FastAPI(
        title="Kinetograph",
        description="Text to video, in the shapes of OpenAI's Videos API.",
        docs_url=None,
        redoc_url=None,
        responses=REFUSALS,
    )
    app.state.service = service
    # routes_create first: /videos/edits is not a video's id.
    for module in (routes_create, routes_videos, routes_models, routes_page):
        app.include_router(module.router)
    app.add_exception_handler(ApiError, on_api_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(OSError, on_os_error)
    for error in UNAVAILABLE:
        app.add_exception_handler(error, on_database_unavailable)
    app.add_middleware(Envelope)
    publish(app)
    return app
