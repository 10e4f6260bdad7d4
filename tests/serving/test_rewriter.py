"""A prompt is rewritten by any chat endpoint; when that fails, a sentence says why."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from serving.catalog import Rewriter
from serving.rewriter import INSTRUCTIONS, RewriteFailed, rewrite


class Chat(BaseHTTPRequestHandler):
    """An endpoint that answers as it is told, and keeps what it was asked."""

    status = 200
    body: bytes = b""
    wait = 0.0
    asked: list[tuple[str, str | None, Any]] = []

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        Chat.asked.append((self.path, self.headers["Authorization"], json.loads(content)))
        time.sleep(self.wait)
        with suppress(ConnectionError):  # who asked may not have waited
            self.send_response(self.status)
            self.send_header("Content-Length", str(len(self.body)))
            self.end_headers()
            self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        pass


def says(text: Any) -> bytes:
    message = {"role": "assistant", "content": text}
    return json.dumps({"choices": [{"index": 0, "message": message}]}).encode()


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rewriter]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    Chat.asked = []
    for key in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(key, raising=False)
    yield Rewriter(url=f"http://127.0.0.1:{server.server_port}/v1/", model="qwen", timeout=0.5)
    server.shutdown()
    server.server_close()


def test_the_endpoint_is_asked_as_openai_s_is_and_its_caption_is_given(
    endpoint: Rewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Chat, "body", says("  一只红球落下,Cafe\u0301.\n"))
    monkeypatch.setenv("KEY", "secret")
    told = endpoint.model_copy(update={"api_key_env": "KEY"})
    assert rewrite("一只球", told) == "一只红球落下,Caf\u00e9."  # NFC
    (path, authorization, body) = Chat.asked[0]
    assert (path, authorization) == ("/v1/chat/completions", "Bearer secret")
    assert body["model"] == "qwen" and body["messages"] == [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": "一只球"},
    ]
    rewrite("a ball", endpoint.model_copy(update={"instructions": "Be brief."}))
    assert Chat.asked[1][1] is None
    assert Chat.asked[1][2]["messages"][0]["content"] == "Be brief."


@pytest.mark.parametrize(
    ("status", "body", "wait", "message"),
    [
        (500, b"", 0.0, "the endpoint answered 500"),
        (401, b"{}", 0.0, "the endpoint answered 401"),
        (200, b"<html>", 0.0, "the answer is no chat completion"),
        (200, b"[]", 0.0, "the answer is no chat completion"),
        (200, b'{"choices": []}', 0.0, "the answer is no chat completion"),
        (200, says(None), 0.0, "the answer holds no caption"),
        (200, says(" "), 0.0, "the answer holds no caption"),
        (200, says("a" * 32_001), 0.0, "the answer holds no caption"),
        (200, says("late"), 1.5, "no answer within 0.5 s"),
    ],
)
def test_a_failure_says_why_without_the_prompt(
    endpoint: Rewriter,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    body: bytes,
    wait: float,
    message: str,
) -> None:
    for name, value in (("status", status), ("body", body), ("wait", wait)):
        monkeypatch.setattr(Chat, name, value)
    with pytest.raises(RewriteFailed, match=f"^{message}$"):
        rewrite("a secret prompt", endpoint)


def test_an_endpoint_that_is_not_there_or_has_no_key_is_a_failure(
    endpoint: Rewriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Rewriter(url="http://127.0.0.1:9/v1", model="m", timeout=5)
    with pytest.raises(RewriteFailed, match="cannot be reached"):
        rewrite("a", gone)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(RewriteFailed, match="NO_SUCH_KEY is not set"):
        rewrite("a", endpoint.model_copy(update={"api_key_env": "NO_SUCH_KEY"}))
    assert Chat.asked == []
