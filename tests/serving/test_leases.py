"""A slot has one holder at a time, and silence counts only for one who would have heard."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from serving import leases
from serving.leases import GATHER_SECONDS, Lease, SlotTaken, evict, forget, present, purge
from serving.store import Store
from serving.tables import workers


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'test.db'}")
    store.create_tables()
    yield store
    store.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.02)


def lease(store: Store, slot: str = "a", seconds: float = 0.2) -> Lease:
    return Lease(store.engine, slot, "cpu", seconds)


def test_a_slot_whose_holder_is_heard_is_not_given_away(store: Store) -> None:
    holder, other = lease(store, seconds=1.0), lease(store, seconds=1.0)
    holder.take()
    told = threading.Event()
    heart = threading.Thread(target=lambda: holder.hold(told.set))
    heart.start()
    with pytest.raises(SlotTaken, match="The slot a is held by another worker; choose one by --s"):
        other.take()
    assert not told.is_set() and present(store.engine, 1.0) == {holder.incarnation}
    evict(store.engine, "a")  # as its supervisor does once the process is dead
    heart.join(10)
    assert told.is_set()
    begun = time.monotonic()
    other.take()
    assert time.monotonic() - begun < 1.0


def test_a_silent_holder_loses_its_slot_and_is_told_so(store: Store) -> None:
    silent, other = lease(store), lease(store)
    begun = time.monotonic()
    silent.take()
    other.take()
    assert time.monotonic() - begun >= 0.2
    assert present(store.engine, None) == {other.incarnation}
    lost: list[str] = []
    silent.hold(lambda: lost.append("the slot"))
    assert lost == ["the slot"]


def test_whoever_left_in_order_is_absent_at_once_and_whoever_is_silent_after_a_while(
    store: Store,
) -> None:
    left, silent, heard = (lease(store, slot, seconds=60) for slot in ("left", "silent", "heard"))
    for each in (left, silent, heard):
        each.take()
    left.leave()
    with store.engine.begin() as connection:
        mine = workers.c.incarnation == silent.incarnation
        connection.execute(sa.update(workers).where(mine).values(heartbeat_at=time.time() - 30))
    assert present(store.engine, None) == {silent.incarnation, heard.incarnation}
    assert present(store.engine, 15) == {heard.incarnation}
    assert present(store.engine, 45) == {silent.incarnation, heard.incarnation}


def test_a_worker_judges_others_only_after_hearing_for_long_enough(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an outage all have been silent; so they have after a night with the lid closed."""
    instant = 1000.0
    monkeypatch.setattr(time, "time", lambda: instant)
    judge = lease(store)
    judge.take()
    assert not judge.steady
    for _ in range(int(GATHER_SECONDS) + 2):
        assert judge._beat() and not judge.steady or instant > 1000 + GATHER_SECONDS
        instant += 1
    assert judge.steady
    instant += 60  # not a heartbeat for a minute
    assert not judge.steady
    judge._beat()
    assert not judge.steady


def test_what_is_served_is_known_until_its_worker_is_long_gone(store: Store) -> None:
    here, there = lease(store, "here"), lease(store, "there")
    for each, names in ((here, ["first", "second"]), (there, ["first"])):
        each.take()
        each.publish([{"name": name, "by": each.incarnation} for name in names])
    assert [row["name"] for row in store.models(15)] == ["first", "second"]
    here.leave()  # the other describes the first one now
    assert [row["description"]["by"] for row in store.models(15)] == [
        there.incarnation,
        here.incarnation,
    ]
    purge(store.engine)
    assert [row["name"] for row in store.models(15)] == ["first"]
    evict(store.engine, "there")
    assert [row["heartbeat_at"] for row in store.models(15)] == [0.0]
    forget(store.engine, ["there"])
    assert store.models(15) == []
