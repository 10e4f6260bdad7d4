"""Webhooks: signed so that the openai client believes them, told once logically, and not lost."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import openai
import pytest
import sqlalchemy as sa

from serving import webhooks
from serving.cli import main
from serving.egress import Egress
from serving.expiry import discard
from serving.service import Service
from serving.tables import deliveries
from serving.webhooks import Courier, Secrets, queue_due, sign
from tests.serving.conftest import EXAMPLES, Serve, Served
from tests.serving.idle import idle_service, served
from tests.serving.receiver import Receiver, receiving

LOCAL = [ip_network("127.0.0.0/8")]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with idle_service(tmp_path) as service:
        service._egress = Egress(LOCAL)
        yield service


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def verify(received: Any, secret: str) -> dict[str, Any]:
    """The event, if the openai client believes that it was signed with `secret`."""
    client = openai.OpenAI(api_key="any", webhook_secret=secret)
    client.webhooks.verify_signature(received.body, received.headers)
    event: dict[str, Any] = json.loads(received.body)
    return event


def ask(service: Service, receiver: Receiver, **headers: str) -> str:
    body = {"prompt": "a cat", "webhook_url": f"{receiver.url}/hook"}
    with served(service) as api:
        response = api.post("/v1/videos", json=body, headers=headers)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def row_of(service: Service, video_id: str) -> Any:
    query = sa.select(deliveries).where(deliveries.c.video_id == video_id)
    with service.store.transaction() as connection:
        return connection.execute(query).first()


def test_the_end_of_a_job_is_told_once_and_signed(service: Service, receiver: Receiver) -> None:
    secret = Secrets(service.store.engine).rotate("", 0)
    video_id = ask(service, receiver)
    assert row_of(service, video_id) is None
    service.cancel(video_id)
    service.cancel(video_id)
    row = row_of(service, video_id)
    courier = Courier(service.store, Egress(LOCAL))
    for _ in range(2):  # the queue may call again for what it has finished
        courier.deliver(row.event_id, 0)
    (received,) = receiver.received
    assert verify(received, secret) == {
        "object": "event",
        "id": row.event_id,
        "type": "video.failed",
        "created_at": int(row.created_at),
        "data": {"id": video_id},
    }
    assert received.headers["webhook-id"] == row.event_id
    assert row_of(service, video_id).delivered_at and row_of(service, video_id).due_at is None
    with pytest.raises(openai.InvalidWebhookSignatureError):
        verify(received, Secrets(service.store.engine).rotate("", 0))


def test_a_failure_is_tried_again_later_and_later_and_given_up_in_the_end(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    Secrets(service.store.engine).rotate("", 0)
    video_id = ask(service, receiver)
    service.cancel(video_id)
    event_id = row_of(service, video_id).event_id
    courier, receiver.status = Courier(service.store, Egress(LOCAL)), 503
    waits = []
    for attempt in range(4):
        courier.deliver(event_id, attempt)
        row = row_of(service, video_id)
        assert (row.attempts, row.failure) == (attempt + 1, "it answered 503")
        waits.append(row.due_at - time.time())
    # 5 s doubled, and up to a fifth longer.
    assert all(5 * 2**n - 1 < wait <= 6 * 2**n for n, wait in enumerate(waits)), waits
    assert len({received.headers["webhook-id"] for received in receiver.received}) == 1
    monkeypatch.setattr(webhooks, "GIVE_UP_SECONDS", 0.0)
    courier.deliver(event_id, 4)
    row = row_of(service, video_id)
    assert row.due_at is None and row.delivered_at is None and len(receiver.received) == 5


def test_what_is_due_is_queued_once_and_again_if_it_is_lost(
    service: Service, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    Secrets(service.store.engine).rotate("", 0)
    video_id = ask(service, receiver)
    service.cancel(video_id)
    queued: list[tuple[str, int]] = []
    enqueue = service.jobs.enqueue_delivery
    monkeypatch.setattr(
        service.jobs,
        "enqueue_delivery",
        lambda *what: queued.append(what) or enqueue(*what),  # type: ignore[func-returns-value]
    )
    for _ in range(3):
        queue_due(service.store, service.jobs)
    assert queued == [(row_of(service, video_id).event_id, 0)]
    monkeypatch.setattr(webhooks, "LOST_SECONDS", -1.0)
    with service.store.transaction() as connection:
        connection.execute(sa.update(deliveries).values(due_at=0.0))
    queue_due(service.store, service.jobs)
    queue_due(service.store, service.jobs)
    assert len(queued) == 3


def test_a_rotated_secret_signs_on_until_it_retires(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = Secrets(service.store.engine)
    old, new = secrets.rotate("k", 0), secrets.rotate("k", 1)
    assert secrets.of("k") == [new, old] and secrets.of("other") == []
    received = type("Received", (), {})()
    received.body, received.headers = b"{}", sign("evt_1", "{}", secrets.of("k"))
    for secret in (old, new):
        verify(received, secret)
    later = time.time() + 3601
    monkeypatch.setattr(time, "time", lambda: later)
    assert secrets.of("k") == [new]


def test_a_video_that_is_deleted_is_told_of_no_more(service: Service, receiver: Receiver) -> None:
    Secrets(service.store.engine).rotate("", 0)
    video_id = ask(service, receiver)
    service.cancel(video_id)
    queue_due(service.store, service.jobs)
    event_id = row_of(service, video_id).event_id
    service.store.start(video_id, "w")
    monkey = service.jobs.settled
    service.jobs.settled = set  # type: ignore[method-assign, assignment]
    discard(service.store, service.jobs, service.files, video_id)
    service.jobs.settled = monkey  # type: ignore[method-assign]
    assert row_of(service, video_id) is None
    assert service.jobs._workflows(workflow_id_prefix=event_id) == []
    Courier(service.store, Egress(LOCAL)).deliver(event_id, 0)
    assert receiver.received == []


def test_an_address_is_refused_at_once_if_it_is_not_public_or_nothing_could_be_signed(
    service: Service, receiver: Receiver
) -> None:
    key = service.keys.create("shop")
    headers = {"authorization": f"Bearer {key}"}

    def refusal(url: str) -> tuple[str, str, str]:
        with served(service) as api:
            body = {"prompt": "a cat", "webhook_url": url}
            error = api.post("/v1/videos", json=body, headers=headers).json()["error"]
        return error["param"], error["code"], error["message"]

    told = refusal(receiver.url)
    assert told[:2] == ("webhook_url", "no_webhook_secret")
    assert "`kinetograph webhooks secret shop`" in told[2]
    service._egress = Egress()
    assert refusal("https://127.0.0.1/")[1:] == (
        *("invalid_value", "webhook_url must be at a public address."),
    )
    assert "an https address" in refusal("ftp://example.com/")[2]


def test_the_command_shows_and_rotates_secrets_and_lists_what_has_not_arrived(
    service: Service, tmp_path: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> str:
        assert main(["webhooks", arguments[0], "--data", str(tmp_path), *arguments[1:]]) == 0
        return capsys.readouterr().out.strip()

    service.keys.create("shop")
    first = run("secret", "shop")
    assert first.startswith("whsec_") and run("secret", "shop") == first != run("secret")
    second = run("rotate", "shop")
    assert run("secret", "shop") == second != first
    (key,) = service.keys.list()
    assert Secrets(service.store.engine).of(key.id) == [second, first]
    assert main(["webhooks", "secret", "nobody", "--data", str(tmp_path)]) == 1
    assert "There is no key named nobody." in capsys.readouterr().err
    secret = service.keys.create("other")
    Secrets(service.store.engine).rotate(service.keys.list()[1].id, 0)
    service.cancel(ask(service, receiver, authorization=f"Bearer {secret}"))
    assert "video.failed" in run("list")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_provenance_and_logs(running: Served, video_id: str) -> None:
    """The file is signed by this service, and API and worker log one id for its request."""
    file = running.api.get(f"/v1/videos/{video_id}/content").content
    told = running.api.post("/v1/videos/verify", files={"video": file}).json()
    assert (told["verdict"], told["ai_made"]) == ("trusted", True)
    lines = [json.loads(line) for line in running.log.read_text().splitlines() if line[:1] == "{"]
    begun = [line for line in lines if line.get("video_id") == video_id]
    asked = [line for line in lines if line.get("route") == "/v1/videos"]
    assert {line["request_id"] for line in begun} == {line["request_id"] for line in asked}
    assert "kinetograph.worker" in {line["logger"] for line in begun}
    assert EXAMPLES[0] not in running.log.read_text()


def told_of_a_job(
    serve_on: Serve, checkpoint: Path, data: Path, down: float
) -> tuple[list[Any], str]:
    """Have a service make a video for a receiver that is away for so many seconds."""
    options = ["webhooks", "secret", "--data", str(data)]
    assert main(options) == 0
    port = free_port()
    options = ["--private-networks", "127.0.0.0/8", "--logs", "json"]
    running = serve_on(checkpoint, data, *options)
    hook = f"http://127.0.0.1:{port}/hook"
    video = running.create(EXAMPLES[0], size="64x64", webhook_url=hook)
    assert running.finish(video["id"])["status"] == "completed"
    check_provenance_and_logs(running, video["id"])
    threading.Event().wait(down)
    with receiving(port) as receiver:
        deadline = time.monotonic() + 180
        while not receiver.received:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(3)  # for a second one, which must not come
    assert running.stop() == 0
    return receiver.received, video["id"]


@pytest.mark.proof
def test_a_receiver_that_was_down_for_a_minute_is_told_under_one_id(
    serve_on: Serve, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    received, video_id = told_of_a_job(serve_on, checkpoint, tmp_path / "data", 60)
    secret = capsys.readouterr().out.strip()
    events = [verify(each, secret) for each in received]
    assert {(event["type"], event["data"]["id"]) for event in events} == {
        ("video.completed", video_id)
    }
    assert len({each.headers["webhook-id"] for each in received}) == 1
    print(f"  told {len(received)} time(s), of one event, after the receiver was down for 60 s")
