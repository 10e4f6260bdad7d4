"""The queue is fair, its order is fixed and explained by one table, whatever happens around it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.fairness import AHEAD, PRIORITIES, TURNS, queue_full, rank, take_turn
from serving.store import Store
from serving.tables import COMPLETED, IN_PROGRESS, QUEUED, Row, videos
from tests.serving.idle import blank

USERS = ("ann", "bob", "cleo")
Queued = list[Row]


class Queue:
    """The table, and one event after another; jobs start in the durable queue's own order."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = 0.0
        self.starts: list[Row] = []
        self.backlogs: list[set[str]] = []  # who had normal jobs queued at each start

    def submit(self, user: str, priority: str = "normal", most: int = 10**6) -> Row | None:
        self.clock += 1.0
        with self.store.transaction() as connection:
            turn = take_turn(connection, user, priority, most)
            if turn is None:
                return None
            row: dict[str, Any] = {
                "id": f"{self.clock:07}",
                "created_at": self.clock,
                "model": "toy",
                "steps": 2,
            }
            row |= {"user_id": user, "priority": priority, "turn": turn}
            self.store.insert(connection, row | {"request": {}, "resolved": {}})
        return self.store.get(row["id"])

    def rows(self, status: str) -> Queued:
        query = sa.select(videos).where(videos.c.status == status)
        with self.store.transaction() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def order(self) -> Queued:
        """The queued jobs as the durable queue sorts them."""

        def key(row: Row) -> tuple[int, float]:
            return rank(row["priority"], row["turn"]), row["created_at"]

        return sorted(self.rows(QUEUED), key=key)

    def position(self, row: Row) -> int:
        query = sa.select(sa.func.count()).where(AHEAD[row["priority"]])
        place = {name: row[name] for name in ("turn", "created_at", "id")}
        with self.store.transaction() as connection:
            return int(connection.scalar(query, place) or 0)

    def start(self) -> Row | None:
        if not (waiting := self.order()):
            return None
        normal = {row["user_id"] for row in waiting if row["priority"] == "normal"}
        self.backlogs.append(normal)
        self.starts.append(waiting[0])
        return self.store.start(waiting[0]["id"], "worker-0")

    def end_one(self, how: Callable[[Row], object]) -> None:
        if running := self.rows(IN_PROGRESS):
            how(running[0])


@contextmanager
def queue() -> Iterator[Queue]:
    with TemporaryDirectory() as folder:
        (Path(folder) / "test.db").write_bytes(blank())
        store = Store(f"sqlite:///{folder}/test.db")
        # Nothing here has to survive a power cut.
        sa.event.listen(store.engine, "connect", lambda c, _: c.execute("PRAGMA synchronous=OFF"))
        yield Queue(store)
        store.close()


events = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(USERS), st.sampled_from(PRIORITIES)),
    st.tuples(st.sampled_from(["start", "start", "finish", "delete", "cancel", "back"])),
)


def play(line: Queue, event: tuple[str, ...]) -> None:
    match event:
        case ("submit", user, priority):
            line.submit(user, priority)
        case ("burst", user, times):
            for _ in range(int(times)):
                line.submit(user)
        case ("start",):
            line.start()
        case ("serve",):
            for _ in range(3):
                row = line.start()
                assert row is None or line.store.complete(row, {})
        case ("finish",):
            line.end_one(lambda row: line.store.complete(row, {}))
        case ("delete",):
            line.end_one(lambda row: line.store.delete(row["id"]))
        case ("back",):
            line.end_one(lambda row: line.store.hand_back(row))
        case ("cancel",):
            for row in line.rows(QUEUED)[1:2]:
                line.store.cancel(row["id"])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(events, max_size=40))
def test_positions_tell_the_true_order_which_never_changes(history: list[tuple[str, ...]]) -> None:
    with queue() as line:
        before: list[str] = []
        for event in history:
            play(line, event)
            order = line.order()
            assert [line.position(row) for row in order] == list(range(len(order)))
            names = [row["id"] for row in order]
            kept = [name for name in before if name in names]
            assert kept == [name for name in names if name in kept]
            # No job is behind one of a lower class.
            classes = [PRIORITIES.index(row["priority"]) for row in order]
            assert classes == sorted(classes)
            before = names


bursts = st.one_of(
    st.tuples(st.just("burst"), st.sampled_from(USERS), st.sampled_from("16")),
    st.tuples(st.sampled_from(["serve", "serve", "start", "finish"])),
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(bursts, min_size=8, max_size=24))
def test_users_that_wait_all_the_while_are_served_alike(history: list[tuple[str, ...]]) -> None:
    """Over any stretch in which two users both wait, their starts differ by at most 2.

    2 is the bound of start-time fair queueing for jobs of length 1 (Goyal et al., theorem 1).
    """
    with queue() as line:
        for event in history:
            play(line, event)
        for one, other in combinations(USERS, 2):
            lead = lowest = highest = 0
            for row, waiting in zip(line.starts, line.backlogs, strict=True):
                if not {one, other} <= waiting:
                    lead = lowest = highest = 0
                    continue
                lead += (row["user_id"] == one) - (row["user_id"] == other)
                lowest, highest = min(lowest, lead), max(highest, lead)
                assert highest - lowest <= 2, line.starts


def test_two_users_with_twenty_jobs_each_alternate_though_one_came_first() -> None:
    with queue() as line:
        for user in ("ann", "bob"):
            for _ in range(20):
                line.submit(user)
        served = []
        while (row := line.start()) is not None:
            served.append(row["user_id"])
            line.store.complete(row, {})
        assert served == ["ann", "bob"] * 20


def test_a_newcomer_waits_for_one_job_of_each_user_and_not_for_their_backlogs() -> None:
    with queue() as line:
        for _ in range(30):
            line.submit("ann")
        for _ in range(7):
            row = line.start()
            assert row and line.store.complete(row, {})
        row = line.submit("bob")
        assert row and line.position(row) == 1
        # Also when nothing is left in the table of what was served.
        for done in line.rows(COMPLETED):
            line.store.delete(done["id"])
        row = line.submit("cleo")
        assert row and line.position(row) == 2


def test_a_job_that_is_handed_back_keeps_its_turn_and_gains_its_user_none() -> None:
    with queue() as line:
        first = [line.submit("ann") for _ in range(2)] and line.start()
        line.submit("bob")
        assert first and line.store.hand_back(first)
        assert [row["user_id"] for row in line.order()] == ["ann", "ann", "bob"]
        assert line.position(first) == 0


def test_the_cap_counts_what_is_queued_and_the_refusal_names_it() -> None:
    with queue() as line:
        assert all(line.submit("ann", most=3) for _ in range(3))
        assert line.submit("ann", "high", most=3) is None
        assert line.submit("bob", most=3)
        line.start()
        assert line.submit("ann", most=3)
    refusal = queue_full(3, 47.6)
    assert (refusal.status, refusal.code) == (429, "queue_full")
    assert "3 videos queued" in refusal.message and refusal.headers == {"retry-after": "48"}
    # A client that is told to wait for more than two minutes gives up.
    assert queue_full(3, 900.0).headers == {"retry-after": "120"}
    assert queue_full(3, 0.2).headers == {"retry-after": "1"}


def test_ranks_sort_as_classes_and_turns_do_and_fit_the_durable_queue() -> None:
    pairs = [(name, turn) for name in PRIORITIES for turn in (1, 2, TURNS - 1)]
    ranks = [rank(*pair) for pair in pairs]
    assert ranks == sorted(set(ranks)) and ranks[0] == 1 and ranks[-1] < 2**31


def race(store: Store) -> list[int | None]:
    """The turns, or refusals, of 40 jobs that one user queues from 8 threads under a cap of 20."""

    def submit(number: int) -> int | None:
        with store.transaction() as connection:
            turn = take_turn(connection, "ann", "normal", 20)
            if turn is not None:
                row = {"id": str(number), "created_at": 0.0, "model": "toy", "steps": 2}
                row |= {"user_id": "ann", "turn": turn, "request": {}, "resolved": {}}
                store.insert(connection, row)
            return turn

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(submit, range(40)))


def test_neither_cap_nor_turn_can_be_raced(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'test.db'}")
    store.create_tables()
    assert sorted(turn for turn in race(store) if turn) == list(range(1, 21))
    store.close()
