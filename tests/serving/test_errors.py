"""No error leaves without the envelope, whoever raised it and in whatever words."""

import asyncio
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.requests import ClientDisconnect
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
    """A part that fails whatever it is asked, once it is there."""

    engine = sa.create_engine("sqlite://")

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        raise self.error


def service(error: Exception) -> Service:
    broken: Any = Broken(error)
    service = Service(broken, broken, broken)
    service.keys = broken
    return service


def test_a_fault_of_ours_is_a_500_that_tells_the_log_and_not_the_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = get(create_app(service(RuntimeError("secret detail"))), "/v1/videos/video_x")
    assert response.status_code == 500
    error = response.json()["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "server_error",
        "internal_error",
        None,
    )
    assert "secret" not in response.text and "secret" in caplog.text
    assert response.headers["x-request-id"] in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("SELECT secret", {}, Exception("server closed the connection")),
        InterfaceError("SELECT secret", {}, Exception("connection already closed")),
        PoolTimeout("QueuePool limit"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/v", "/v1/videos/v/events", "/readyz"])
def test_a_database_that_is_away_is_a_503_that_says_when_to_come_back(
    error: Exception, path: str
) -> None:
    response = get(create_app(service(error)), path)
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert response.headers["x-request-id"].startswith("req_")
    answer = response.json()["error"]
    assert (answer["type"], answer["code"]) == ("server_error", "database_unavailable")
    assert "secret" not in response.text


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


def test_a_client_that_is_gone_is_no_fault_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    async def cut(scope: Scope, receive: Receive, send: Send) -> None:
        raise ClientDisconnect

    async def ask() -> None:
        await Envelope(cut)({"type": "http"}, nothing, nothing)

    async def nothing(*_: Any) -> Any:
        raise AssertionError("nobody is there")

    with caplog.at_level("INFO"):
        asyncio.run(ask())
    assert [record.levelname for record in caplog.records if "req_" in record.message] == ["INFO"]
