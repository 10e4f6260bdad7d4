"""Errors on the wire: one envelope, and a request id, whatever went wrong and wherever."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger("kinetograph.api")


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


class Envelope:
    """Outermost ASGI layer: names every request, and leaves no error without the envelope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = f"req_{uuid4().hex}"
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
            elif replaced is not None:
                if not message.get("more_body"):
                    response, replaced = replaced, None
                    await response(scope, receive, tagged)
                return
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except Exception:
            log.exception("request %s failed", request_id)
            if started:
                raise
            error = ApiError("The server made a mistake.", code="internal_error", status=500)
            await error.response()(scope, receive, tagged)


def _replacement(start: Message) -> JSONResponse | None:
    """The envelope for an error that a library worded as plain text, such as a range's 416."""
    headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    kind: Any = headers.pop("content-type", "")
    if start["status"] < 400 or kind.startswith("application/json"):
        return None
    headers.pop("content-length", None)
    return from_status(start["status"], None, headers).response()
