"""No error leaves without the envelope, whoever raised it and in whatever words."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.app import create_app
from serving.errors import Envelope
from serving.service import Service


def get(app: ASGIApp, path: str = "/") -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path)

    return asyncio.run(ask())


class Broken:
    """A database that is gone."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("secret detail")


def test_a_fault_of_ours_is_a_500_that_tells_the_log_and_not_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken: Any = Broken()
    response = get(create_app(Service(broken, broken, broken)), "/v1/videos/video_x")
    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "server_error",
        "internal_error",
        None,
    )
    assert "secret" not in response.text and "secret" in caplog.text
    assert response.headers["x-request-id"] in caplog.text


def test_an_error_that_a_library_words_as_plain_text_is_put_in_the_envelope() -> None:
    refusal = PlainTextResponse("Only support bytes range", 400, {"allow": "GET"})
    response = get(Envelope(refusal))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "bad_request"
    assert response.headers["allow"] == "GET"
    assert int(response.headers["content-length"]) == len(response.content)


def test_answers_that_are_no_errors_pass_as_they_are() -> None:
    response = get(Envelope(StreamingResponse(iter([b"a", b"b"]), 201)))
    assert (response.status_code, response.content) == (201, b"ab")
    assert response.headers["x-request-id"].startswith("req_")


def test_a_fault_in_the_middle_of_an_answer_is_not_papered_over() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError, match="gone"):
        get(Envelope(half))
