"""Fencing: of all the attempts at a job only the latest can write, and there are three."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.store import ATTEMPTS, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'test.db'}")
    store.create_tables()
    yield store
    store.close()


def insert(store: Store, name: str) -> str:
    row = {"id": name, "created_at": time.time(), "model": "toy", "steps": 2}
    with store.transaction() as connection:
        store.insert(connection, row | {"request": {}, "resolved": {}})
    return name


def test_a_superseded_attempt_can_write_nothing(store: Store) -> None:
    insert(store, "v")
    old, new = store.start("v", "worker-0"), store.start("v", "worker-1")
    assert old and new and (old["attempt"], new["attempt"]) == (1, 2)
    assert not store.advance(old, 50, 1)
    assert not store.complete(old, {})
    assert not store.fail(old, "generation_failed", "No.")
    assert not store.hand_back(old)
    row = store.get("v")
    assert row and (row["status"], row["progress"], row["owner"]) == ("in_progress", 0, "worker-1")
    assert store.advance(new, 50, 1) and store.complete(new, {"denoise": 1.5})
    row = store.get("v")
    assert row and (row["status"], row["progress"]) == ("completed", 100)
    assert row["timings"] == {"denoise": 1.5} and row["completed_at"] is not None


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_a_cancelled_or_deleted_job_stops_its_attempt(store: Store, end: str) -> None:
    running = store.start(insert(store, "v"), "worker-0")
    assert running and store.advance(running, 10, 1)
    assert getattr(store, end)("v")
    assert not store.advance(running, 20, 2)
    assert not store.complete(running, {})
    assert store.start("v", "worker-0") is None
    row = store.get("v")
    assert (row is None) if end == "delete" else (row and row["error"]["code"] == "cancelled")


def test_a_job_that_kills_its_workers_is_failed_after_three_attempts(store: Store) -> None:
    insert(store, "v")
    assert all(store.start("v", "worker-0") for _ in range(ATTEMPTS))
    assert store.start("v", "worker-0") is None
    row = store.get("v")
    assert row and (row["status"], row["error"]["code"]) == ("failed", "worker_crashed")
    assert row["attempt"] == ATTEMPTS == 3


def test_a_worker_that_is_asked_to_stop_costs_no_attempt(store: Store) -> None:
    insert(store, "v")
    for _ in range(ATTEMPTS + 1):
        row = store.start("v", "worker-0")
        assert row and store.advance(row, 40, 1) and store.hand_back(row)
        row = store.get("v")
        assert row and (row["status"], row["progress"]) == ("queued", 0)
    assert store.start("v", "worker-0")


def test_a_finished_job_is_not_started_again(store: Store) -> None:
    row = store.start(insert(store, "v"), "worker-0")
    assert row and store.complete(row, {})
    assert store.start("v", "worker-0") is None
    assert not store.cancel("v")
    row = store.get("v")
    assert row and row["status"] == "completed"


def test_pages_follow_age_both_ways_even_for_jobs_of_the_same_instant(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    names = [insert(store, f"v{i}") for i in range(5)]
    for newest_first in (False, True):
        seen: list[str] = []
        after = None
        while rows := store.page(after, 2, newest_first):
            seen += [row["id"] for row in rows]
            after = rows[-1]
        assert seen == (names[::-1] if newest_first else names)


def test_queue_positions_count_the_queued_jobs_before(store: Store) -> None:
    names = [insert(store, f"v{i}") for i in range(3)]
    rows = [row for name in names if (row := store.get(name))]
    assert [store.queue_position(row) for row in rows] == [0, 1, 2]
    store.start("v0", "worker-0")
    assert [store.queue_position(row) for row in rows[1:]] == [0, 1]


def test_the_usual_time_is_the_mean_of_completed_jobs_of_that_model(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.usual_seconds("toy") is None
    now = 0.0
    monkeypatch.setattr(time, "time", lambda: now)
    for name, seconds in (("v0", 2.0), ("v1", 4.0)):
        row = store.start(insert(store, name), "worker-0")
        now += seconds
        assert row and store.complete(row, {})
    assert store.usual_seconds("toy") == 3.0
    assert store.usual_seconds("other") is None
