"""Fencing: of all the attempts at a job only the latest can write, and there are three."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.store import Store
from serving.tables import ATTEMPTS


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
    assert not store.advance(old, 50, 1) and not store.holds(old)
    assert not store.complete(old, {})
    assert not store.fail(old, "generation_failed", "No.")
    assert not store.hand_back(old)
    row = store.get("v")
    assert row and (row["status"], row["progress"], row["owner"]) == ("in_progress", 0, "worker-1")
    assert store.holds(new) and store.advance(new, 50, 1)
    assert store.complete(new, {"denoise": 1.5}) and not store.holds(new)
    row = store.get("v")
    assert row and (row["status"], row["progress"]) == ("completed", 100)
    assert row["timings"] == {"denoise": 1.5} and row["completed_at"] is not None


@pytest.mark.parametrize("end", ["cancel", "delete"])
def test_a_cancelled_or_deleted_job_stops_its_attempt(store: Store, end: str) -> None:
    running = store.start(insert(store, "v"), "worker-0")
    assert running and store.advance(running, 10, 1)
    assert getattr(store, end)("v")
    assert not store.holds(running) and not store.advance(running, 20, 2)
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


def test_a_completion_whose_answer_was_lost_may_be_repeated(store: Store) -> None:
    row = store.start(insert(store, "v"), "worker-0")
    assert row and store.complete(row, {}) and store.complete(row, {})
    assert not store.complete({**row, "attempt": 7}, {})


def test_the_tables_of_an_earlier_version_are_brought_up_to_date(tmp_path: Path) -> None:
    """As the first version made them; its videos are kept."""
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "CREATE TABLE videos (id VARCHAR PRIMARY KEY, created_at FLOAT NOT NULL,"
            " started_at FLOAT, completed_at FLOAT, status VARCHAR NOT NULL, model VARCHAR NOT"
            " NULL, request JSON NOT NULL, resolved JSON NOT NULL, progress INTEGER NOT NULL,"
            " step INTEGER NOT NULL, steps INTEGER NOT NULL, timings JSON, error JSON, attempt"
            " INTEGER NOT NULL, attempts_left INTEGER NOT NULL, owner VARCHAR,"
            " idempotency_key VARCHAR UNIQUE)"
        )
        connection.execute(
            "INSERT INTO videos VALUES ('v', 1, 2, 3, 'completed', 'toy', '{}', '{}', 100, 2, 2,"
            " '{}', NULL, 1, 2, 'worker-0', NULL)"
        )
        connection.execute("CREATE TABLE models (executor VARCHAR PRIMARY KEY, loaded_at FLOAT)")
    connection.close()
    store = Store(f"sqlite:///{path}")
    for _ in range(2):
        store.create_tables()
    row = store.get("v")
    assert row and (row["status"], row["priority"], row["inputs"]) == ("completed", "normal", {})
    assert store.models(15) == []
    assert store.start(insert(store, "w"), "worker-0")
    store.close()


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
