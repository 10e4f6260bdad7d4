"""Whatever cannot be done is refused before it is queued: by name, with the value and what is
allowed, in one envelope, and with a word on whether to try again.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from serving.schema import ListVideos
from serving.service import Service
from serving.tables import models, workers
from tests.serving.idle import TINY, finish, idle_service, publish, served

NPM = Path(__file__).parent / "npm"
PROMPT = "a cat"
PLAIN = {**TINY, "name": "plain", "capabilities": ["text"], "loras": ["ink"]}
STILL = {**TINY, "name": "still", "capabilities": ["first_frame"]}
FRAME = base64.b64encode((NPM / "frame.png").read_bytes()).decode()
IMAGE = {"image_url": f"data:image/png;base64,{FRAME}"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("idle")
    with idle_service(folder, TINY, PLAIN, STILL, most_queued=3) as service:
        yield service


@pytest.fixture(scope="module")
def api(service: Service) -> Iterator[httpx.Client]:
    with served(service) as api:
        yield api


@pytest.fixture
def clip() -> bytes:
    return (NPM / "clip.mp4").read_bytes()


def check_error(response: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    """The envelope and the request id; gives the message."""
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"].startswith("req_")
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert (response.headers.get("x-should-retry") == "false") == (
        code in ("not_supported", "idempotency_key_reused")
    )
    message: str = error["message"]
    return message


BAD = [
    ({}, "prompt", "missing_required_parameter", "text of 1 to 32000"),
    ({"prompt": "  "}, "prompt", "invalid_value", "text of 1 to 32000"),
    ({"prompt": "a\x00cat"}, "prompt", "invalid_value", "control characters"),
    ({"prompt": "a\ud800cat"}, "prompt", "invalid_value", "control characters"),
    ({"prompt": 5}, "prompt", "invalid_value", "not 5"),
    (
        {"size": "big"},
        "size",
        "invalid_value",
        "WIDTHxHEIGHT in pixels, such as 512x512, not 'big'",
    ),
    ({"size": "0x64"}, "size", "invalid_value", "not '0x64'"),
    ({"size": "100x100", "model": "tiny"}, "size", "invalid_value", "64x64, 512x512 for tiny"),
    ({"seconds": "4", "model": "tiny"}, "seconds", "invalid_value", "1.125, 2.125 for tiny"),
    ({"seconds": "-1"}, "seconds", "invalid_value", "positive decimal"),
    ({"seconds": "0"}, "seconds", "invalid_value", "positive decimal"),
    ({"seconds": "soon"}, "seconds", "invalid_value", "not 'soon'"),
    ({"num_frames": 16, "model": "tiny"}, "num_frames", "invalid_value", "9, 17 for tiny"),
    ({"fps": 0}, "fps", "invalid_value", "from 1 to 240"),
    ({"seed": -1}, "seed", "invalid_value", "from 0 to 9223372036854775807"),
    ({"seed": 2**63}, "seed", "invalid_value", "not 9223372036854775808"),
    ({"seed": 1.5}, "seed", "invalid_value", "not 1.5"),
    ({"num_inference_steps": 0}, "num_inference_steps", "invalid_value", "from 1 to 1000"),
    ({"num_inference_steps": 10**30}, "num_inference_steps", "invalid_value", "from 1 to 1000"),
    ({"guidance_scale": "strong"}, "guidance_scale", "invalid_value", "a number from 0 to 100"),
    ({"guidance_scale_2": 3}, "guidance_scale_2", "invalid_value", "left out for tiny"),
    ({"flow_shift": 0}, "flow_shift", "invalid_value", "above 0"),
    ({"width": 64}, "height", "missing_required_parameter", "given together"),
    (
        {"model": "gpt-4"},
        "model",
        "model_not_found",
        "one of tiny, plain, still, or",
    ),
    ({"promt": "x"}, "promt", "unknown_parameter", "did you mean prompt?"),
    ({"colour_of_the_sky": 1}, "colour_of_the_sky", "unknown_parameter", "known are prompt,"),
    ({"input_reference": {"image_url": "x"}}, "input_reference", "invalid_value", "data URL"),
    ({"input_reference": "a.png"}, "input_reference", "invalid_value", "an image file, or"),
    (
        {"input_reference": {"image_url": "https://10.0.0.1/a.png"}},
        *("input_reference", "invalid_value", "at a public address"),
    ),
    ({"input_reference": {"file_id": "f"}}, "input_reference", "not_supported", "no Files API"),
    (
        {"input_reference": IMAGE, "model": "plain"},
        *("input_reference", "not_supported"),
        "plain, which cannot start from an image; tiny, still can.",
    ),
    (
        {"shots": [{"prompt": PROMPT}, {"prompt": PROMPT, "join": "continue"}], "model": "plain"},
        *("shots", "not_supported"),
        "plain, which cannot start from an image; tiny, still can.",
    ),
    ({"model": "still"}, "input_reference", "missing_required_parameter", "still starts from"),
    ({"lora": "x"}, "lora", "lora_not_found", "left out for tiny"),
    ({"lora": {"name": "x"}, "model": "plain"}, "lora", "lora_not_found", "one of ink for plain"),
    ({"lora": "../../etc/passwd"}, "lora", "lora_not_found", "left out for tiny"),
    ({"priority": "urgent"}, "priority", "invalid_value", "high, normal or low"),
    ({"strength": 0.5}, "strength", "unknown_parameter", "not a field"),
    ({"webhook_url": "example.com"}, "webhook_url", "invalid_value", "an https address"),
    ({"first_frame": "x"}, "first_frame", "not_supported", "first_frame"),
    ({"last_frame": "x"}, "last_frame", "not_supported", "last_frame"),
    ({"mask": "x"}, "mask", "not_supported", "mask"),
    ({"loop": True}, "loop", "not_supported", "loop"),
]


@pytest.mark.parametrize(("fields", "param", "code", "words"), BAD)
def test_bad_input_is_refused_with_field_value_and_allowed_values(
    api: httpx.Client, fields: dict[str, Any], param: str, code: str, words: str
) -> None:
    body = fields if param == "prompt" else {"prompt": PROMPT, **fields}
    # json.dumps escapes the lone surrogate that httpx would choke on.
    kind = {"content-type": "application/json"}
    response = api.post("/v1/videos", content=json.dumps(body), headers=kind)
    message = check_error(response, 400, code, param)
    assert param in message and words in message


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_numbers_that_are_none_are_refused(api: httpx.Client, number: str) -> None:
    body = f'{{"prompt": "a cat", "guidance_scale": {number}}}'
    kind = {"content-type": "application/json"}
    response = api.post("/v1/videos", content=body, headers=kind)
    check_error(response, 400, "invalid_value", "guidance_scale")


def part(prompt: bytes) -> bytes:
    """A multipart body of one field."""
    head = b'--b\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n'
    return head + prompt + b"\r\n--b--\r\n"


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_json"),
        (b"\xff", "application/json", 400, "invalid_json"),
        (b"[" * 100_000, "application/json", 400, "invalid_json"),
        (b"prompt", "text/plain", 415, "unsupported_media_type"),
        (b"", "", 415, "unsupported_media_type"),
        (b"x", "multipart/form-data", 400, "invalid_form"),
        (b"x", "multipart/form-data; boundary=b", 400, "invalid_form"),
        (b" " * (28 << 20) + b"{}", "application/json", 413, "body_too_large"),
        (b"prompt=%ff", "application/x-www-form-urlencoded", 400, "invalid_form"),
        (b"prompt=\xff", "application/x-www-form-urlencoded", 400, "invalid_form"),
        (b"a=1&" * 100, "application/x-www-form-urlencoded", 400, "invalid_form"),
        (part(b"a\xffcat"), "multipart/form-data; boundary=b", 400, "invalid_form"),
        (part(b" " * (1 + (28 << 20))), "multipart/form-data; boundary=b", 413, "body_too_large"),
        (part(b"a cat")[:-7], "multipart/form-data; boundary=b", 400, "invalid_form"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    api: httpx.Client, body: bytes, kind: str, status: int, code: str
) -> None:
    headers = {"content-type": kind} if kind else {}
    response = api.post("/v1/videos", content=body, headers=headers)
    check_error(response, status, code)


def test_a_field_given_twice_is_refused(api: httpx.Client) -> None:
    twice = [("prompt", (None, PROMPT)), ("prompt", (None, "a dog"))]
    check_error(api.post("/v1/videos", files=twice), 400, "invalid_value", "prompt")
    both = {"input_reference": "x", "input_reference[image_url]": "data:,"}
    response = api.post("/v1/videos", data={"prompt": PROMPT, **both})
    check_error(response, 400, "invalid_value", "input_reference")


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "param"),
    [
        ("GET", "/v1/nothing", 404, "not_found", None),
        ("PUT", "/v1/videos", 405, "method_not_allowed", None),
        ("GET", "/v1/videos/video_nope", 404, "video_not_found", "video_id"),
        ("GET", "/v1/videos/video_nope/content", 404, "video_not_found", "video_id"),
        ("DELETE", "/v1/videos/video_nope", 404, "video_not_found", "video_id"),
        ("POST", "/v1/videos/video_nope/cancel", 404, "video_not_found", "video_id"),
        ("GET", "/v1/models/nope", 404, "model_not_found", "model"),
        ("GET", "/v1/videos?limit=0", 400, "invalid_value", "limit"),
        ("GET", "/v1/videos?limit=many", 400, "invalid_value", "limit"),
        ("GET", "/v1/videos?order=up", 400, "invalid_value", "order"),
        ("GET", "/v1/videos?after=video_nope", 400, "invalid_value", "after"),
        ("GET", "/v1/videos?before=x", 400, "unknown_parameter", "before"),
        ("POST", "/v1/videos/edits", 415, "unsupported_media_type", None),
        ("POST", "/v1/videos/extensions", 400, "not_supported", None),
        ("POST", "/v1/videos/characters", 400, "not_supported", None),
        ("GET", "/v1/videos/characters/c", 400, "not_supported", None),
        ("POST", "/v1/videos/video_nope/remix", 415, "unsupported_media_type", None),
        ("GET", "/v1/videos/video_nope/events", 404, "video_not_found", "video_id"),
        ("GET", "/v1/videos/video_nope/content?variant=poster", 400, "invalid_value", "variant"),
    ],
)
def test_every_refusal_has_the_envelope(
    api: httpx.Client, method: str, path: str, status: int, code: str, param: str | None
) -> None:
    response = api.request(method, path)
    check_error(response, status, code, param)


CREATES = ["", "/sync", "/edits", "/video_nope/remix"]


@pytest.mark.parametrize("path", CREATES)
@pytest.mark.parametrize("kind", ["json", "data", "files"])
def test_every_route_that_makes_a_video_checks_every_kind_of_body(
    api: httpx.Client, path: str, kind: str
) -> None:
    fields: dict[str, Any] = {"prompt": PROMPT, "seed": "-1"}
    if path == "/edits":
        fields |= {"video": {"id": "x"}} if kind == "json" else {"video[id]": "x"}
    body = {name: (None, text) for name, text in fields.items()} if kind == "files" else fields
    response = api.post(f"/v1/videos{path}", **{kind: body})
    assert "not '-1'" in check_error(response, 400, "invalid_value", "seed")


@pytest.mark.parametrize("path", CREATES)
def test_every_route_that_makes_a_video_checks_its_key(api: httpx.Client, path: str) -> None:
    key = {"idempotency-key": "k" * 256}
    response = api.post(f"/v1/videos{path}", json={"prompt": PROMPT}, headers=key)
    check_error(response, 400, "invalid_value", "Idempotency-Key")


def test_only_a_completed_video_can_be_started_from(api: httpx.Client, service: Service) -> None:
    waiting = api.post("/v1/videos", json={"prompt": PROMPT, "priority": "low"}).json()["id"]
    again = {"prompt": PROMPT}
    message = check_error(
        api.post(f"/v1/videos/{waiting}/remix", json=again), 400, "video_not_ready", "video_id"
    )
    assert waiting in message and "queued" in message
    response = api.post("/v1/videos/edits", json={**again, "video": {"id": waiting}})
    check_error(response, 400, "video_not_ready", "video")
    nothing = api.post("/v1/videos/video_nope/remix", json=again)
    check_error(nothing, 404, "video_not_found", "video_id")
    nothing = api.post("/v1/videos/edits", json={**again, "video": {"id": "video_nope"}})
    check_error(nothing, 404, "video_not_found", "video")
    api.delete(f"/v1/videos/{waiting}")


def test_what_the_model_asked_for_cannot_start_from_is_refused(
    api: httpx.Client, service: Service, clip: bytes
) -> None:
    made = api.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
    finish(service, made, clip)
    for model in ("plain", "still"):
        body = {"prompt": PROMPT, "video": {"id": made}, "model": model}
        message = check_error(
            api.post("/v1/videos/edits", json=body), 400, "not_supported", "video"
        )
        assert model in message


def test_a_user_has_so_many_jobs_queued_and_no_more(api: httpx.Client) -> None:
    def ask(token: str, **fields: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return api.post("/v1/videos", json={"prompt": PROMPT, **fields}, headers=headers)

    made = [ask("one").json()["id"] for _ in range(3)]
    full = ask("one", user="somebody else")
    assert "3 videos queued" in check_error(full, 429, "queue_full")
    assert 0 < int(full.headers["retry-after"]) <= 120
    # Another token, and without a token another user, have a queue of their own.
    others = [ask("two"), ask("", user="a"), ask("", user="b")]
    assert all(response.is_success for response in others)
    api.post(f"/v1/videos/{made[0]}/cancel")
    assert ask("one").is_success


def test_one_key_is_one_job_for_each_token(api: httpx.Client) -> None:
    def ask(token: str, prompt: str = PROMPT) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}", "idempotency-key": "order-1"}
        return api.post("/v1/videos", json={"prompt": prompt}, headers=headers)

    mine, again, theirs = ask("three"), ask("three"), ask("four")
    assert mine.json()["id"] == again.json()["id"] != theirs.json()["id"]
    check_error(ask("three", "a dog"), 422, "idempotency_key_reused")


def test_requests_that_race_with_one_key_make_one_job(api: httpx.Client, service: Service) -> None:
    def ask(_: int) -> httpx.Response:
        headers = {"authorization": "Bearer five", "idempotency-key": "race"}
        return api.post("/v1/videos", json={"prompt": PROMPT}, headers=headers)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))
    assert len({answer.json()["id"] for answer in answers}) == 1
    rows = service.page(ListVideos(limit=100)).data
    assert len([row for row in rows if row.id == answers[0].json()["id"]]) == 1


def test_who_asks_is_kept_as_a_hash_and_the_class_as_it_is(
    api: httpx.Client, service: Service
) -> None:
    def row_of(headers: dict[str, str], **fields: str) -> Any:
        response = api.post("/v1/videos", json={"prompt": PROMPT, **fields}, headers=headers)
        return service.store.get(response.json()["id"])

    keyed = row_of({"authorization": "Bearer sk-secret"}, priority="high", user="ann")
    assert keyed["user_id"] == hashlib.sha256(b"sk-secret").hexdigest()
    assert keyed["priority"] == "high"
    named, again, other = (row_of({}, user=name) for name in ("ann", "ann", "ben"))
    assert named["user_id"] == again["user_id"] != other["user_id"]
    assert "ann" not in named["user_id"] and named["priority"] == "normal"


def test_a_lora_is_named_in_brackets_too(api: httpx.Client, service: Service) -> None:
    form = {"prompt": PROMPT, "model": "plain", "lora[name]": "ink", "user": "painter"}
    made = api.post("/v1/videos", data=form).json()["id"]
    row = service.store.get(made)
    assert row is not None and row["resolved"]["lora"] == "ink"


def test_a_service_without_a_worker_is_not_ready_but_takes_jobs(
    api: httpx.Client, service: Service
) -> None:
    assert api.get("/readyz").json() == {"status": "ready"}
    with service.store.transaction() as connection:
        then = connection.scalar(sa.select(workers.c.heartbeat_at))
        connection.execute(sa.update(workers).values(heartbeat_at=0.0))
    check_error(api.get("/readyz"), 503, "no_worker")
    early = api.post("/v1/videos", json={"prompt": PROMPT, "user": "early"})
    assert early.is_success and early.json()["eta_seconds"] is None
    with service.store.transaction() as connection:
        connection.execute(sa.update(workers).values(heartbeat_at=then))


def test_before_the_first_worker_everything_is_asked_to_come_again(tmp_path: Path) -> None:
    """With 503 and `retry-after`, which the openai client obeys; what is there can be looked at."""
    with idle_service(tmp_path) as service, served(service) as api:
        made = api.post("/v1/videos", json={"prompt": PROMPT}).json()["id"]
        finish(service, made, (NPM / "clip.mp4").read_bytes())
        with service.store.transaction() as connection:
            for table in (models, workers):
                connection.execute(sa.delete(table))
        body = {"prompt": PROMPT, "video": {"id": made}}
        asked = [api.get("/readyz"), api.post(f"/v1/videos/{made}/remix", json={"prompt": PROMPT})]
        asked += [api.post(f"/v1/videos/{name}", json=body) for name in ("edits", "extensions")]
        asked += [api.post(f"/v1/videos{name}", json={"prompt": PROMPT}) for name in ("", "/sync")]
        for answer in asked:
            message = check_error(answer, 503, "model_loading")
            assert message == "The model is still being loaded."
            assert answer.headers["retry-after"] == "1"
        assert api.get("/v1/models").json()["data"] == []
        assert api.get(f"/v1/videos/{made}").json()["status"] == "completed"
        publish(service.store, TINY)
        assert api.get("/readyz").is_success
        assert api.post("/v1/videos", json={"prompt": PROMPT}).is_success
