"""The sweeper makes the queue know every unfinished job, once, however many sweep."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from serving import caretaker
from serving.caretaker import SETTLE_SECONDS, Caretaker
from serving.expiry import ORPHAN_SECONDS
from serving.files import Files
from serving.jobs import JobQueue
from serving.leases import Lease
from serving.store import Store


@dataclass
class Ground:
    """A store and a queue, and a caretaker of each of two workers."""

    store: Store
    jobs: JobQueue
    leases: list[Lease]
    caretakers: list[Caretaker]

    def insert(self, name: str, age: float = 60) -> None:
        row = {"id": name, "created_at": time.time() - age, "model": "toy", "steps": 2, "turn": 7}
        with self.store.transaction() as connection:
            self.store.insert(connection, row | {"request": {}, "resolved": {}})

    def queue(self) -> dict[str, tuple[str, int]]:
        """State and priority of every workflow."""
        query = "SELECT workflow_uuid, status, priority FROM workflow_status"
        with self.store.engine.connect() as connection:
            rows = connection.execute(sa.text(query))
            return {name: (status, priority) for name, status, priority in rows}

    def set(self, name: str, status: str, executor: str) -> None:
        change = "UPDATE workflow_status SET status = :s, executor_id = :e WHERE workflow_uuid = :n"
        with self.store.engine.begin() as connection:
            connection.execute(sa.text(change), {"s": status, "e": executor, "n": name})

    def sweep(self) -> None:
        """All sweep at once."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(Caretaker.sweep, self.caretakers))


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    JobQueue.create_tables(url)
    store = Store(url)
    store.create_tables()
    jobs = JobQueue(store.engine)
    leases = [Lease(store.engine, slot, "cpu", 15) for slot in "ab"]
    for lease in leases:
        lease.take()
    at_hand = "v"
    parts = store, jobs, Files(tmp_path / "videos")
    yield Ground(store, jobs, leases, [Caretaker(*parts, e, lambda: at_hand) for e in leases])
    jobs.close()
    store.close()


def test_a_row_without_workflow_is_queued_once_and_in_its_turn(ground: Ground) -> None:
    ground.insert("v")
    ground.insert("young", age=SETTLE_SECONDS - 2)
    ground.sweep()
    normal = 1 << 28
    assert ground.queue() == {"v": ("ENQUEUED", normal + 7)}
    ground.sweep()
    assert len(ground.queue()) == 1


@pytest.mark.parametrize("over", ["SUCCESS", "ERROR", "CANCELLED"])
def test_a_job_whose_workflow_ended_without_it_gets_another_one(ground: Ground, over: str) -> None:
    ground.insert("v")
    ground.sweep()
    ground.set("v", over, "a.gone")
    ground.sweep()
    assert {name: state for name, (state, _) in ground.queue().items()} == {
        "v": over,
        "v.1": "ENQUEUED",
    }
    row = ground.store.start("v", "a")
    assert row and ground.store.complete(row, {})
    ground.set("v.1", "SUCCESS", "a")
    ground.sweep()
    assert len(ground.queue()) == 2
    ground.jobs.forget("v")
    assert ground.queue() == {}


def test_what_a_worker_took_and_does_not_run_is_queued_again_at_the_second_look(
    ground: Ground,
) -> None:
    mine = ground.leases[0].incarnation
    for name, executor in (("v", mine), ("w", mine), ("x", "elsewhere.1")):
        ground.insert(name)
        ground.jobs.enqueue(name, 1)
        ground.set(name, "PENDING", executor)
    ground.caretakers[0].sweep()
    assert {state for state, _ in ground.queue().values()} == {"PENDING"}
    ground.caretakers[0].sweep()
    # v is the job at hand, x another worker's.
    assert {name: state for name, (state, _) in ground.queue().items()} == {
        "v": "PENDING",
        "w": "ENQUEUED",
        "x": "PENDING",
    }


def test_inputs_whose_record_was_never_written_are_removed_once_nobody_can_be_about_to(
    ground: Ground, tmp_path: Path
) -> None:
    """An API that is killed between a file and its row leaves them; no video is ever touched."""
    ground.insert("video_known")
    root, long_ago = tmp_path / "videos", time.time() - ORPHAN_SECONDS - 60
    for name, file in {
        "video_orphan": "inputs/first_frame.png",
        "video_half": "inputs/.part",
        "video_empty": "inputs",
        "video_known": "inputs/source.mp4",
        "video_made": "1.mp4",
        "video_young": "inputs/source.mp4",
        "not_ours": "inputs/source.mp4",
    }.items():
        (root / name / "inputs").mkdir(parents=True)
        if file != "inputs":
            (root / name / file).write_bytes(b"x")
        if name != "video_young":
            for path in (root / name, root / name / "inputs"):
                os.utime(path, (long_ago, long_ago))
    ground.sweep()
    kept = {"video_known", "video_made", "video_young", "not_ours"}
    assert {path.name for path in root.iterdir()} == kept
    # The next look is as far away as a file has to be old.
    for path in (root / "video_young", root / "video_young" / "inputs"):
        os.utime(path, (long_ago, long_ago))
    ground.sweep()
    assert (root / "video_young").exists()


def test_the_dead_are_those_who_left_or_were_followed_or_are_silent_before_a_fair_judge(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, other = ground.leases
    silent = Lease(ground.store.engine, "c", "cpu", 0)
    silent.take()
    left = Lease(ground.store.engine, "d", "cpu", 15)
    left.take()
    left.leave()
    executors = {
        "v": judge.incarnation,
        "w": other.incarnation,
        "x": silent.incarnation,
        "y": left.incarnation,
        "z": "b.followed",
    }
    for name, executor in executors.items():
        ground.insert(name)
        ground.jobs.enqueue(name, 1)
        ground.set(name, "PENDING", executor)
    recovered: list[str] = []
    monkeypatch.setattr(caretaker, "recover", recovered.append)
    ground.caretakers[0].reap()
    assert set(recovered) == {left.incarnation, "b.followed"}
    monkeypatch.setattr(Lease, "steady", True)
    with ground.store.engine.begin() as connection:
        old = "UPDATE workers SET heartbeat_at = heartbeat_at - 20 WHERE executor = 'c'"
        connection.execute(sa.text(old))
    recovered.clear()
    ground.caretakers[0].reap()
    assert set(recovered) == {left.incarnation, "b.followed", silent.incarnation}
