"""Where an unfinished job stands: how many run before it, and when it will be over.

Relies on the `videos` columns `shape` (`Shape.key`), `step_at` and `timings` (seconds per stage,
of which `text` and `denoise` are known by name), and on the heartbeats in `workers`.
"""

import time
from dataclasses import dataclass
from math import inf

import sqlalchemy as sa

from serving.database import now
from serving.estimates import Shape, Stages, expect, learn, wait
from serving.fairness import AHEAD, PRIORITIES
from serving.jobs import POLL_SECONDS
from serving.store import Store
from serving.tables import COMPLETED, IN_PROGRESS, QUEUED, Row, videos, workers

LATEST = 300
"""Finished jobs of a model that are looked at."""
FRESH_SECONDS = 2.0
"""How long what was learned is used before it is learned again."""
HANDOVER_SECONDS = POLL_SECONDS / 2
"""From a job's end to the next one's start: a worker's next look is as likely soon as late."""

_KIND = videos.c.model, videos.c.shape
_COUNTS = {
    priority: sa.select(*_KIND, sa.func.count()).where(queued).group_by(*_KIND)
    for priority, queued in AHEAD.items()
}
_RUNNING = sa.select(
    *(*_KIND, videos.c.owner, videos.c.step, videos.c.steps, videos.c.step_at)
).where(videos.c.status == IN_PROGRESS)
_RANK = sa.case({name: number for number, name in enumerate(PRIORITIES)}, value=videos.c.priority)
_FIRST = (
    sa.select(videos)
    .where(videos.c.user_id == sa.bindparam("user"), videos.c.status == QUEUED)
    .order_by(_RANK, videos.c.turn)
    .limit(1)
)
_FINISHED = (
    sa.select(videos.c.shape, videos.c.timings, videos.c.started_at, videos.c.completed_at)
    .where(videos.c.status == COMPLETED, videos.c.model == sa.bindparam("model"))
    .where(videos.c.shape != "")  # that of jobs older than the column
    .order_by(videos.c.completed_at.desc())
    .limit(LATEST)
)


@dataclass(frozen=True)
class Standing:
    """Jobs queued before a job (None once it runs), and seconds until it is over, if known."""

    queue_position: int | None
    eta_seconds: float | None


class Standings:
    """Where unfinished jobs stand; a worker silent for longer than `lease` seconds is not one."""

    def __init__(self, store: Store, lease: float) -> None:
        self._store = store
        self._lease = lease
        self._learned: dict[str, tuple[float, dict[Shape, Stages]]] = {}

    def of(self, row: Row) -> Standing:
        """Where the job of `row` stands now."""
        if row["status"] not in (QUEUED, IN_PROGRESS):
            return Standing(None, None)
        with self._store.transaction() as connection:
            alive = self._alive(connection)
            if row["status"] == IN_PROGRESS:
                left = self._remaining(connection, row, row["owner"] in alive)
                return Standing(None, _rounded(left) if alive else None)
            counts = self._ahead(connection, row)
            costs = [self._total(connection, model, key) for model, key in counts]
            own = self._total(connection, row["model"], row["shape"])
            busy, stranded = self._running(connection, alive)
        position = sum(counts.values())
        if not alive or own is None or None in costs:
            return Standing(position, None)
        work = sum(n * (cost or 0) for n, cost in zip(counts.values(), costs, strict=True))
        return Standing(position, _rounded(wait(work + stranded, busy) + own))

    def any_worker(self) -> bool:
        """Whether there is a worker that takes jobs."""
        with self._store.transaction() as connection:
            return bool(self._alive(connection))

    def until_start(self, user_id: str) -> float | None:
        """Seconds until the first of a user's queued jobs should start, if that is known."""
        with self._store.transaction() as connection:
            row = connection.execute(_FIRST, {"user": user_id}).mappings().first()
            if row is None:
                return 0.0
            own = self._total(connection, row["model"], row["shape"])
        eta = self.of(dict(row)).eta_seconds
        return None if eta is None or own is None else max(eta - own, 0.0)

    def _alive(self, connection: sa.Connection) -> set[str]:
        recent = workers.c.heartbeat_at > now(connection) - self._lease
        at_work = sa.and_(recent, workers.c.state == "ready")
        return set(connection.scalars(sa.select(workers.c.executor).where(at_work)))

    def _ahead(self, connection: sa.Connection, row: Row) -> dict[tuple[str, str], int]:
        place = {name: row[name] for name in ("turn", "created_at", "id")}
        counts = connection.execute(_COUNTS[row["priority"]], place)
        return {(model, shape): count for model, shape, count in counts}

    def _running(self, connection: sa.Connection, alive: set[str]) -> tuple[list[float], float]:
        """Seconds for which each living worker is taken, and those of jobs to be run again."""
        busy, stranded = dict.fromkeys(alive, 0.0), 0.0
        for row in connection.execute(_RUNNING).mappings().all():
            left = self._remaining(connection, dict(row), row["owner"] in alive) or 0.0
            if row["owner"] in alive:
                busy[row["owner"]] += left
            else:
                stranded += left
        return list(busy.values()), stranded

    def _remaining(self, connection: sa.Connection, row: Row, alive: bool) -> float | None:
        """Seconds left of a job that has started, or all of them if its worker is gone."""
        stages = self._expect(connection, row["model"], row["shape"])
        if stages is None or not alive:
            return stages and sum(stages)
        return stages.remaining(row["step"], row["steps"], time.time() - row["step_at"])

    def _total(self, connection: sa.Connection, model: str, key: str) -> float | None:
        """Seconds that a queued job takes a worker, with the time until it is found."""
        stages = self._expect(connection, model, key)
        return None if stages is None else sum(stages) + HANDOVER_SECONDS

    def _expect(self, connection: sa.Connection, model: str, key: str) -> Stages | None:
        if not key:
            return None
        learned_at, learned = self._learned.get(model, (-inf, {}))
        if time.monotonic() - learned_at > FRESH_SECONDS:
            rows = connection.execute(_FINISHED, {"model": model}).mappings()
            learned = learn([dict(row) for row in rows])
            self._learned[model] = time.monotonic(), learned
        return expect(Shape.parse(key), learned)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
