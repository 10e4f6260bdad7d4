"""Expired videos vanish at once and altogether, and a sweep that is killed half way is finished."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from serving.expiry import discard, remove_expired
from serving.files import Files
from serving.jobs import JobQueue
from serving.service import Service
from serving.store import Store
from tests.serving.idle import finish, idle_service, served

ASKED = {"prompt": "a red ball bounces", "size": "64x64"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with idle_service(tmp_path) as service:
        yield service


def make(service: Service, api: Any, **fields: Any) -> str:
    response = api.post("/v1/videos", json=ASKED | fields, headers={"idempotency-key": "k"})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def settle(service: Service) -> None:
    """Have every workflow return, as if a worker had seen to it."""
    with service.store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE workflow_status SET status = 'SUCCESS'"))


def remains(service: Service, video_id: str, tmp_path: Path) -> set[str]:
    """What is left of a video: row, queue entry, files."""
    query = sa.text("SELECT count(*) FROM workflow_status WHERE workflow_uuid = :name")
    with service.store.engine.connect() as connection:
        queued = connection.scalar(query, {"name": video_id})
    folder = (tmp_path / "videos" / video_id).exists()
    parts = {"row": service.store.get(video_id), "queue": queued, "files": folder}
    return {name for name, there in parts.items() if there}


def sweep(service: Service) -> list[str]:
    return remove_expired(service.store, service.jobs, service.files)


def expire(service: Service, video_id: str) -> None:
    """Have its hour come."""
    with service.store.engine.begin() as connection:
        query = sa.text("UPDATE videos SET expires_at = :past WHERE id = :name")
        connection.execute(query, {"past": time.time() - 1, "name": video_id})


def test_a_job_that_is_over_has_its_end_set_by_the_retention(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'test.db'}", retention=2.0)
    store.create_tables()
    row = {"model": "toy", "steps": 2, "created_at": 0.0, "request": {}, "resolved": {}}
    ends = {}
    for how in ("complete", "fail", "cancel"):
        with store.transaction() as connection:
            store.insert(connection, row | {"id": how})
        started = store.start(how, "worker-0")
        assert started and started["expires_at"] is None
        arguments = {"complete": (started, {}), "fail": (started, "c", "m"), "cancel": (how,)}[how]
        getattr(store, how)(*arguments)
        over = store.get(how)
        assert over
        ends[how] = over["expires_at"]
    store.close()
    assert ends == pytest.approx(dict.fromkeys(ends, time.time() + 2 * 3600), abs=60)


def test_an_expired_video_is_gone_for_all_who_ask_and_then_altogether(
    service: Service, tmp_path: Path
) -> None:
    with served(service) as api:
        kept = make(service, api)
        gone = str(api.post("/v1/videos", json=ASKED).json()["id"])
        finish(service, gone, b"mp4")
        settle(service)
        assert sweep(service) == []  # neither is over its time
        expire(service, gone)
        assert api.get(f"/v1/videos/{gone}").status_code == 404
        assert api.get(f"/v1/videos/{gone}/content").status_code == 404
        assert [video["id"] for video in api.get("/v1/videos").json()["data"]] == [kept]
    assert remains(service, gone, tmp_path) == {"row", "queue", "files"}
    assert sweep(service) == [gone]
    assert remains(service, gone, tmp_path) == set()
    assert sweep(service) == [] and "row" in remains(service, kept, tmp_path)


@pytest.mark.parametrize("place", ["files", "queue", "row"])
def test_a_sweep_that_is_killed_half_way_is_finished_by_the_next(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with served(service) as api:
        gone = make(service, api)
    finish(service, gone, b"mp4")
    settle(service)
    expire(service, gone)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    owner, name = {
        "files": (Files, "remove"),
        "queue": (JobQueue, "forget"),
        "row": (Store, "delete"),
    }[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            sweep(service)
    # Whatever is left, the row that leads to it is.
    assert "row" in remains(service, gone, tmp_path)
    assert sweep(service) == [gone] and remains(service, gone, tmp_path) == set()


def test_what_the_queue_still_holds_is_left_for_later(service: Service, tmp_path: Path) -> None:
    with served(service) as api:
        video_id = make(service, api)
        assert api.delete(f"/v1/videos/{video_id}").json()["deleted"]
        assert api.get(f"/v1/videos/{video_id}").status_code == 404
        assert api.delete(f"/v1/videos/{video_id}").status_code == 404
        # Its Idempotency-Key makes another one.
        assert make(service, api) != video_id
    assert sweep(service) == [] and remains(service, video_id, tmp_path) == {"row", "queue"}
    # The worker that takes it finds that there is nothing to do.
    assert service.store.start(video_id, "w") is None
    settle(service)
    assert sweep(service) == [video_id] and remains(service, video_id, tmp_path) == set()


def test_a_finished_video_is_discarded_at_once_and_a_running_attempt_can_write_no_more(
    service: Service, tmp_path: Path
) -> None:
    with served(service) as api:
        done = make(service, api)
        running = str(api.post("/v1/videos", json=ASKED).json()["id"])
    finish(service, done, b"mp4")
    row = service.store.start(running, "w")
    assert row
    discard(service.store, service.jobs, service.files, running)
    assert not service.store.advance(row, 50, 1) and not service.store.complete(row, {})
    settle(service)
    discard(service.store, service.jobs, service.files, done)
    assert remains(service, done, tmp_path) == set()
