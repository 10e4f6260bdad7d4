"""Server-sent events tell each change of a job once, end when it is over, and outlast an outage;
an answer that waits for its video ends with it, and a client that hangs up cancels it.
"""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from serving import routes_videos
from serving.schema import ListVideos
from serving.service import Service
from tests.serving.idle import finish, idle_service, served

CLIP = (Path(__file__).parent / "npm" / "clip.mp4").read_bytes()
Event = dict[str, str]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with idle_service(tmp_path_factory.mktemp("idle")) as service:
        yield service


@pytest.fixture(scope="module")
def api(service: Service) -> Iterator[httpx.Client]:
    with served(service) as api:
        yield api


def create(api: httpx.Client) -> str:
    video_id: str = api.post("/v1/videos", json={"prompt": "a cat"}).json()["id"]
    return video_id


def read_events(response: httpx.Response) -> Iterator[Event]:
    """The events of a stream, comments under the name `comment`, as the HTML standard, 9.2.6."""
    event: Event = {}
    for line in response.iter_lines():
        name, _, value = line.partition(":")
        if line:
            event[name or "comment"] = value.removeprefix(" ")
        elif event:
            yield event
            event = {}


def follow(api: httpx.Client, video_id: str, **headers: str) -> Iterator[Event]:
    path = f"/v1/videos/{video_id}/events"
    with api.stream("GET", path, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in read_events(response):
            assert "comment" not in event, "a ping: nothing was told for a while"
            yield event


def test_every_change_is_told_once_and_the_stream_ends_with_the_job(
    api: httpx.Client, service: Service
) -> None:
    video_id = create(api)
    events = follow(api, video_id)
    assert next(events)["event"] == "video.queued"
    row = service.store.start(video_id, "w")
    assert row is not None
    assert next(events)["event"] == "video.in_progress"
    assert service.store.advance(row, 48, 1)
    told = json.loads(next(events)["data"])
    assert (told["id"], told["status"], told["progress"]) == (video_id, "in_progress", 48)
    assert service.store.complete(row, {"denoise": 1.0})
    last = next(events)
    assert last["event"] == "video.completed" and json.loads(last["data"])["progress"] == 100
    assert list(events) == []


def test_a_client_that_comes_back_is_told_only_what_it_has_not_seen(api: httpx.Client) -> None:
    video_id = create(api)
    first = next(follow(api, video_id))
    again = follow(api, video_id, **{"last-event-id": first["id"]})
    api.post(f"/v1/videos/{video_id}/cancel")
    (last,) = again
    assert last["event"] == "video.failed"
    assert json.loads(last["data"])["error"]["code"] == "cancelled"
    seen = {"last-event-id": last["id"]}
    over = api.get(f"/v1/videos/{video_id}/events", headers=seen)
    assert (over.status_code, over.content) == (204, b"")  # a browser then stops asking
    (told,) = follow(api, video_id)
    assert told == last


def test_a_deleted_job_is_told_as_such(api: httpx.Client, service: Service) -> None:
    video_id = create(api)
    events = follow(api, video_id)
    assert next(events)["event"] == "video.queued"
    service.store.delete(video_id)
    assert [event["event"] for event in events] == ["video.deleted"]
    gone = api.get(f"/v1/videos/{video_id}/events")
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "video_not_found")


def test_a_comment_keeps_a_quiet_connection_alive(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes_videos, "PING_SECONDS", 0.1)
    with api.stream("GET", f"/v1/videos/{create(api)}/events") as response:
        events = read_events(response)
        assert next(events)["event"] == "video.queued"
        assert next(events)["comment"].startswith("ping")


def outage(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the database away for three looks at a row."""
    looks = 0

    def away(video_id: str) -> Any:
        nonlocal looks
        looks += 1
        raise OperationalError("", {}, Exception("gone"))

    with monkeypatch.context() as patch:
        patch.setattr(service.store, "get", away)
        while looks < 3:
            time.sleep(0.05)


def test_the_stream_outlasts_an_outage_of_the_database(
    api: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    video_id = create(api)
    events = follow(api, video_id)
    assert next(events)["event"] == "video.queued"
    outage(service, monkeypatch)
    finish(service, video_id, CLIP)
    assert [event["event"] for event in events][-1] == "video.completed"


def newest(service: Service, known: set[str]) -> str:
    """The id of the job that is queued next."""
    deadline = time.monotonic() + 20
    while True:
        for video in service.page(ListVideos(limit=100)).data:
            if video.id not in known:
                return video.id
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ids(service: Service) -> set[str]:
    return {video.id for video in service.page(ListVideos(limit=100)).data}


def wait_for(api: httpx.Client, answers: list[httpx.Response]) -> threading.Thread:
    def ask() -> None:
        answers.append(api.post("/v1/videos/sync", json={"prompt": "a cat"}))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_the_answer_to_sync_is_the_video_even_after_an_outage(
    api: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, answers = ids(service), list[httpx.Response]()
    thread = wait_for(api, answers)
    video_id = newest(service, known)
    outage(service, monkeypatch)
    finish(service, video_id, CLIP)
    thread.join()
    assert answers[0].headers["content-type"] == "video/mp4"
    assert answers[0].headers["x-video-id"] == video_id
    assert answers[0].content == CLIP


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("out_of_memory", 500, "server_error"),
        ("cancelled", 409, "invalid_request_error"),
        ("invalid_request", 400, "invalid_request_error"),
    ],
)
def test_a_job_that_fails_is_the_error_of_sync(
    api: httpx.Client, service: Service, code: str, status: int, kind: str
) -> None:
    known, answers = ids(service), list[httpx.Response]()
    thread = wait_for(api, answers)
    row = service.store.start(newest(service, known), "w")
    assert row is not None and service.store.fail(row, code, "It ended.")
    thread.join()
    assert (answers[0].status_code, answers[0].headers["x-should-retry"]) == (status, "false")
    error = answers[0].json()["error"]
    assert (error["code"], error["message"], error["type"]) == (code, "It ended.", kind)


def test_a_client_that_hangs_up_on_sync_cancels(
    api: httpx.Client, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    known = ids(service)
    with pytest.raises(httpx.ReadTimeout):
        api.post("/v1/videos/sync", json={"prompt": "a cat"}, timeout=0.5)
    video_id = newest(service, known)
    deadline = time.monotonic() + 20
    while (video := service.view(service.get(video_id))).status != "failed":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert video.error is not None and video.error.code == "cancelled"
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
