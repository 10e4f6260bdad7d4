"""Positions and estimates of real rows: jobs ahead, running jobs and living workers all count."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import serving.standing
from serving.estimates import Shape
from serving.standing import HANDOVER_SECONDS, Standing, Standings
from serving.store import Store
from serving.tables import Row, videos, workers

SMALL, LARGE = Shape(64, 64, 1, 9, 4), Shape(64, 64, 1, 17, 8)
NOW = 1_000_000.0
STARTING = {"executor": "worker-1", "heartbeat_at": NOW, "started_at": NOW, "state": "starting"}
STARTING |= {"incarnation": "b", "device": "cpu"}
SECONDS = {SMALL: 10.0, LARGE: 40.0}


class Table:
    """A store whose rows are written as a test needs them, at a time that stands still."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.standings = Standings(store, lease=15.0)
        self.count = 0

    def add(self, shape: Shape, status: str = "queued", **columns: Any) -> Row:
        self.count += 1
        row = {"id": f"v{self.count:02}", "created_at": NOW - 100 + self.count, "status": status}
        row |= {"model": "toy", "steps": shape.steps, "shape": shape.key, "turn": self.count}
        row |= {"request": {}, "resolved": {}, "user_id": "ann", **columns}
        with self.store.transaction() as connection:
            self.store.insert(connection, row)
        added = self.store.get(str(row["id"]))
        assert added
        return added

    def run(self, shape: Shape, owner: str, step: int = 0, ago: float = 0.0) -> Row:
        times = {"started_at": NOW - ago, "step_at": NOW - ago}
        return self.add(shape, "in_progress", owner=owner, step=step, **times)

    def finish(self, shape: Shape) -> Row:
        timings = {"text": 0.0, "denoise": SECONDS[shape]}
        times = {"started_at": NOW - 500, "completed_at": NOW - 500 + SECONDS[shape]}
        return self.add(shape, "completed", timings=timings, **times)

    def worker(self, name: str, silent: float = 0.0) -> None:
        row = {"executor": name, "heartbeat_at": NOW - silent, "started_at": 0.0, "state": "ready"}
        row |= {"incarnation": "a", "device": "cpu"}
        with self.store.transaction() as connection:
            connection.execute(sa.insert(workers).values(row))


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Table]:
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(serving.standing, "now", lambda _: sa.literal(NOW))
    monkeypatch.setattr(serving.standing, "FRESH_SECONDS", -1.0)
    store = Store(f"sqlite:///{tmp_path / 'test.db'}")
    store.create_tables()
    yield Table(store)
    store.close()


def test_nothing_is_promised_before_anything_was_finished_or_without_a_worker(
    table: Table,
) -> None:
    first, second = table.add(SMALL), table.add(SMALL)
    table.worker("worker-0")
    assert table.standings.of(second) == Standing(1, None)
    done = table.finish(SMALL)
    assert table.standings.of(first) == Standing(0, pytest.approx(10 + HANDOVER_SECONDS))
    assert table.standings.of(done) == Standing(None, None)
    with table.store.transaction() as connection:
        connection.execute(sa.update(workers).values(heartbeat_at=NOW - 16))
        connection.execute(sa.insert(workers).values(STARTING))
    assert table.standings.of(first) == Standing(0, None)
    assert table.standings.of(table.run(SMALL, "worker-0")) == Standing(None, None)


def test_jobs_ahead_count_by_their_own_shapes_and_classes(table: Table) -> None:
    table.worker("worker-0")
    for shape in SECONDS:
        table.finish(shape)
    table.add(SMALL, priority="low", turn=0)
    table.add(LARGE, priority="high", turn=99)
    table.add(LARGE)
    mine = table.add(SMALL)
    table.add(LARGE)
    standing = table.standings.of(mine)
    assert standing == Standing(2, pytest.approx(40 + 40 + 10 + 3 * HANDOVER_SECONDS))


def test_a_running_job_counts_for_the_steps_that_it_still_has(table: Table) -> None:
    table.worker("worker-0")
    table.finish(SMALL)
    running = table.run(SMALL, "worker-0", step=3, ago=0.5)
    # Of 4 steps of 2.5 s one is left, and begun half a second ago.
    assert table.standings.of(running) == Standing(None, pytest.approx(2.0))
    assert table.standings.of(table.add(SMALL)) == Standing(
        0, pytest.approx(2.0 + 10.0 + HANDOVER_SECONDS)
    )


def test_workers_share_the_queue_and_a_dead_one_s_job_is_to_be_run_again(table: Table) -> None:
    table.finish(SMALL)
    for name, silent in (("worker-0", 0.0), ("worker-1", 1.0), ("worker-2", 60.0)):
        table.worker(name, silent)
    table.run(SMALL, "worker-0")
    mine = table.add(SMALL)
    # Worker 1 is free.
    assert table.standings.of(mine) == Standing(0, pytest.approx(10 + HANDOVER_SECONDS))
    stranded = table.run(SMALL, "worker-2", step=3, ago=60.0)
    assert table.standings.of(stranded) == Standing(None, pytest.approx(10.0))
    # The dead one's 10 s go to worker 1 first.
    assert table.standings.of(mine) == Standing(0, pytest.approx(20 + HANDOVER_SECONDS))


def test_a_user_s_first_job_starts_when_what_is_before_it_is_done(table: Table) -> None:
    assert table.standings.until_start("bob") == 0.0
    table.add(SMALL)
    table.add(SMALL, user_id="bob", priority="low")
    table.add(SMALL, user_id="bob")
    assert table.standings.until_start("bob") is None
    table.finish(SMALL)
    table.worker("worker-0")
    assert table.standings.until_start("bob") == pytest.approx(10 + HANDOVER_SECONDS, abs=0.1)


def test_jobs_of_an_older_service_have_a_position_and_no_estimate(table: Table) -> None:
    table.worker("worker-0")
    old, _, _ = table.add(SMALL), table.run(SMALL, "worker-0"), table.finish(LARGE)
    with table.store.transaction() as connection:  # such as a table is whose columns are new
        connection.execute(sa.update(videos).values(shape="", step_at=None))
    table.finish(SMALL)
    first = table.store.get(old["id"])
    assert first and table.standings.of(first) == Standing(0, None)
    assert table.standings.of(table.add(SMALL)) == Standing(1, None)


def test_what_was_learned_is_learned_anew_every_now_and_then(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving.standing, "FRESH_SECONDS", 60.0)
    table.worker("worker-0")
    mine = table.add(SMALL)
    table.finish(SMALL)
    assert table.standings.of(mine).eta_seconds is not None
    with table.store.transaction() as connection:
        connection.execute(sa.delete(videos).where(videos.c.status == "completed"))
    assert table.standings.of(mine).eta_seconds is not None
    monkeypatch.setattr(serving.standing, "FRESH_SECONDS", -1.0)
    assert table.standings.of(mine).eta_seconds is None
