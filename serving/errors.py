"""Errors on the wire: one envelope, and a request id, whatever went wrong and wherever."""

import errno
import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.logs import about
from serving.tracing import span

log = logging.getLogger("kinetograph.api")

METHODS = {"GET", "HEAD", "POST", "DELETE"}
"""Those of our routes."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ApiError(Exception):
    """A refusal: one sentence for a person, and a code and parameter name for a program."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str = "invalid_value",
        status: int = 400,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The error envelope."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return JSONResponse({"error": error}, self.status, self.headers)


def not_supported(message: str, param: str | None = None) -> ApiError:
    """A refusal that no retry can change."""
    headers = {"x-should-retry": "false"}
    return ApiError(message, param=param, code="not_supported", headers=headers)


def from_status(status: int, detail: str | None, headers: Mapping[str, str] | None) -> ApiError:
    """The error for a bare HTTP status, such as the router's 404 and 405."""
    phrase = HTTPStatus(status).phrase
    code = phrase.lower().replace(" ", "_")
    return ApiError(f"{detail or phrase}.", code=code, status=status, headers=headers)


async def on_api_error(_request: Request, error: Exception) -> JSONResponse:
    """Exception handler for `ApiError`."""
    assert isinstance(error, ApiError)
    return error.response()


async def on_http_exception(request: Request, error: Exception) -> JSONResponse:
    """Exception handler for Starlette's `HTTPException`."""
    assert isinstance(error, HTTPException)
    detail = f"{error.detail}: {request.method} {request.url.path}"
    return from_status(error.status_code, detail, error.headers).response()


async def on_database_unavailable(_request: Request, error: Exception) -> JSONResponse:
    """Exception handler for `serving.database.UNAVAILABLE`, which a retry may find back."""
    log.warning("The database cannot be reached: %s", type(error).__name__)
    message, headers = "The database cannot be reached; try again.", {"retry-after": "2"}
    refusal = ApiError(message, code="database_unavailable", status=503, headers=headers)
    return refusal.response()


async def on_os_error(_request: Request, error: Exception) -> JSONResponse:
    """Exception handler for `OSError`: says it when the disk is full."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        raise error
    log.warning("The upload cannot be stored: %s", error.strerror)
    message, headers = f"The upload cannot be stored: {error.strerror}.", {"retry-after": "60"}
    return ApiError(message, code="storage_full", status=507, headers=headers).response()


class Envelope:
    """Outermost ASGI layer: names every request, and leaves no error without the envelope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = scope["request_id"] = f"req_{uuid4().hex}"
        with about(request_id=request_id), span("request"):
            await self._answer(scope, receive, send, request_id)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        begun = time.perf_counter()
        started = False
        replaced: JSONResponse | None = None

        async def tagged(message: Message) -> None:
            nonlocal started, replaced
            if message["type"] == "http.response.start":
                started = True
                if replacement := _replacement(message):
                    replaced = replacement
                    return
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
                _note(scope, message["status"], time.perf_counter() - begun)
            elif replaced is not None:
                if not message.get("more_body"):
                    response, replaced = replaced, None
                    await response(scope, receive, tagged)
                return
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except ClientDisconnect:  # nobody is left to tell
            log.info("request %s was given up", request_id)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise
            error = ApiError("The server made a mistake.", code="internal_error", status=500)
            await error.response()(scope, receive, tagged)


def _note(scope: Scope, status: int, seconds: float) -> None:
    """Count and log an answer, by its route: what the client wrote is not told."""
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in METHODS else "other"
    if "app" in scope:  # else it is around something else than the service
        scope["app"].state.service.metrics.note(method, route, status, seconds)
    facts = {"method": method, "route": route, "status": status}
    log.info("answered", extra=facts | {"seconds": round(seconds, 4)})


def _replacement(start: Message) -> JSONResponse | None:
    """The envelope for an error that a library worded as plain text, such as a range's 416."""
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    kind: Any = headers.pop("content-type", "")
    if start["status"] < 400 or kind.startswith("application/json"):
        return None
    headers.pop("content-length", None)
    return from_status(start["status"], None, headers).response()
