"""What the policy refuses is refused before it is queued, and so is what it cannot be asked of."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.policy import BadPolicy, Policy, blocklist, load
from serving.schema import ListVideos
from tests.serving.hostile import picture
from tests.serving.idle import idle_service, served
from tests.serving.receiver import listening


@pytest.mark.parametrize(
    ("prompt", "refused"),
    [
        ("a Red  Hat on a cat", True),
        ("ＲＥＤ hat", True),  # full width
        ("r\u200bed hat", True),  # with a zero-width space
        ("a red hatter", False),
        ("a straße", True),
        ("# a comment", False),
    ],
)
def test_a_phrase_is_found_however_it_is_spelled(prompt: str, refused: bool) -> None:
    judge = blocklist("red hat  # whose?\n\n# a comment\nSTRASSE\n")
    assert (judge(prompt, None) is not None) == refused
    assert blocklist("")(prompt, None) is None


@contextmanager
def asked(tmp_path: Path, policy: Policy) -> Iterator[httpx.Client]:
    with idle_service(tmp_path) as service, served(service) as api:
        service._policy = policy
        yield api
        assert service.page(ListVideos()).data == []


def check_refused(response: httpx.Response, words: str) -> None:
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "content_policy_violation")
    assert words in error["message"] and response.headers["x-should-retry"] == "false"


def moderator(handler: BaseHTTPRequestHandler) -> None:
    """Flags the word blood, and every image; answers nonsense to the word noise."""
    sent = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
    assert handler.path == "/v1/moderations" and sent["model"] == "guard"
    text, *images = sent["input"]
    if images:
        url = images[0]["image_url"]["url"]
        assert base64.b64decode(url.split(",")[1])[:4] == b"\x89PNG"
    flagged = "blood" in text["text"] or bool(images)
    result = {"flagged": flagged, "categories": {"violence": flagged, "hate": False}}
    body: dict[str, Any] = {"results": [result]} if "noise" not in text["text"] else {"no": 1}
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(json.dumps(body).encode())


def test_list_endpoint_and_function_are_asked_about_prompts_and_images(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("red hat\n")
    with listening(moderator) as url:
        (tmp_path / "policy.yaml").write_text(
            f"blocklist: words\nendpoint: {{url: {url}/v1, model: guard}}\n"
            "function: tests.serving.test_policy:judge\nfail_closed: true\n"
        )
        with asked(tmp_path, load(tmp_path / "policy.yaml")) as api:

            def ask(prompt: str, **files: Any) -> httpx.Response:
                return api.post("/v1/videos", data={"prompt": prompt}, files=files)

            check_refused(ask("a red hat"), "a blocked phrase")
            check_refused(ask("blood"), "violence")
            check_refused(ask("a cat", input_reference=picture("JPEG")), "violence")
            check_refused(ask("a function's word"), "said by a function")
            unheard = ask("noise")
            assert (unheard.status_code, unheard.json()["error"]["code"]) == (
                *(503, "policy_unavailable"),
            )


def judge(prompt: str, image: bytes | None) -> str | None:
    """Of the test above."""
    return "said by a function" if "function" in prompt else None


def test_it_fails_open_or_closed_as_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(prompt: str, image: bytes | None) -> str | None:
        raise RuntimeError(prompt)

    with idle_service(tmp_path) as service, served(service) as api:
        for closed, status in ((False, 200), (True, 503)):
            service._policy = Policy([broken], closed)
            assert api.post("/v1/videos", json={"prompt": "a sentinel"}).status_code == status
    assert "could not be asked: RuntimeError" in caplog.text and "sentinel" not in caplog.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("blocklist: nowhere", "cannot be used"),
        ("colour: red", "colour: Extra inputs"),
        ("endpoint: {url: here, model: m}", "endpoint.url"),
        ("function: nowhere.at_all:judge", "cannot be used"),
        ("[", "cannot be used"),
    ],
)
def test_a_policy_that_cannot_be_used_is_refused_in_a_sentence(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(BadPolicy, match=words):
        load(tmp_path / "policy.yaml")
