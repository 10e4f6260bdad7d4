"""The videos table and the models table: every fact the service keeps, in one database.

A job belongs to the attempt that started it last. Each start raises `attempt`, and every later
write compares it, so an attempt that was superseded, cancelled or deleted can write nothing.
"""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa

ATTEMPTS = 3
"""Starts that a job is given: one that kills its worker must not do so for ever."""

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
UNFINISHED = (QUEUED, IN_PROGRESS)

_metadata = sa.MetaData()

videos = sa.Table(
    "videos",
    _metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("completed_at", sa.Float),
    sa.Column("status", sa.String, nullable=False, default=QUEUED),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),  # what was asked
    sa.Column("resolved", sa.JSON, nullable=False),  # what is made of it
    sa.Column("progress", sa.Integer, nullable=False, default=0),  # percent
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("timings", sa.JSON(none_as_null=True)),  # seconds per stage
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("attempts_left", sa.Integer, nullable=False, default=ATTEMPTS),
    sa.Column("owner", sa.String),  # executor of the latest attempt
    sa.Column("idempotency_key", sa.String, unique=True),
    sa.Index("videos_by_age", "created_at", "id"),
    sa.Index("videos_by_status", "status", "created_at"),
)

models = sa.Table(
    "models",
    _metadata,
    sa.Column("executor", sa.String, primary_key=True),
    sa.Column("description", sa.JSON, nullable=False),
    sa.Column("loaded_at", sa.Float, nullable=False),
    sa.Column("heartbeat_at", sa.Float, nullable=False),
)

Row = Mapping[str, Any]


class Store:
    """The tables behind `url`, any database that SQLAlchemy Core speaks to."""

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _prepare_sqlite)

    def create_tables(self) -> None:
        """Create what is absent; safe to repeat."""
        _metadata.create_all(self._engine)

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """A connection whose writes are committed together, or not at all."""
        return self._engine.begin()

    def close(self) -> None:
        """Let go of every connection."""
        self._engine.dispose()

    # Jobs, as the API sees them.

    def insert(self, connection: sa.Connection, row: Row) -> None:
        """Add a queued job within the caller's transaction."""
        connection.execute(sa.insert(videos).values(dict(row)))

    def get(self, video_id: str) -> Row | None:
        """The job of that id."""
        return self._one(sa.select(videos).where(videos.c.id == video_id))

    def get_by_idempotency_key(self, key: str) -> Row | None:
        """The job that was created under that key."""
        return self._one(sa.select(videos).where(videos.c.idempotency_key == key))

    def page(self, after: Row | None, limit: int, newest_first: bool) -> list[Row]:
        """Up to `limit` jobs by age, from the one that follows `after`."""
        age = sa.tuple_(videos.c.created_at, videos.c.id)
        query = sa.select(videos).limit(limit)
        if after is not None:
            mark = sa.tuple_(after["created_at"], after["id"])
            query = query.where(age < mark if newest_first else age > mark)
        columns = (videos.c.created_at, videos.c.id)
        query = query.order_by(*(c.desc() if newest_first else c.asc() for c in columns))
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def queue_position(self, row: Row) -> int:
        """How many queued jobs come before this one."""
        earlier = sa.tuple_(videos.c.created_at, videos.c.id) < sa.tuple_(
            row["created_at"], row["id"]
        )
        query = sa.select(sa.func.count()).where(videos.c.status == QUEUED, earlier)
        with self._engine.connect() as connection:
            return int(connection.scalar(query) or 0)

    def usual_seconds(self, model: str) -> float | None:
        """Mean time from start to end of the model's latest 20 completed jobs."""
        spent = videos.c.completed_at - videos.c.started_at
        latest = (
            sa.select(spent.label("spent"))
            .where(videos.c.model == model, videos.c.status == COMPLETED)
            .order_by(videos.c.created_at.desc())
            .limit(20)
            .subquery()
        )
        with self._engine.connect() as connection:
            mean = connection.scalar(sa.select(sa.func.avg(latest.c.spent)))
        return None if mean is None else float(mean)

    def delete(self, video_id: str) -> bool:
        """Forget a job; whether there was one."""
        return self._changed(sa.delete(videos).where(videos.c.id == video_id))

    # Jobs, as a worker sees them.

    def start(self, video_id: str, executor: str) -> Row | None:
        """Take an unfinished job as a new attempt; None if there is no such job, or it is over.

        A job whose attempts are spent is failed with code `worker_crashed` instead.
        """
        mine = sa.and_(videos.c.id == video_id, videos.c.status.in_(UNFINISHED))
        begun = self._one(
            sa.update(videos)
            .where(mine, videos.c.attempts_left > 0)
            .values(
                status=IN_PROGRESS,
                attempt=videos.c.attempt + 1,
                attempts_left=videos.c.attempts_left - 1,
                owner=executor,
                started_at=time.time(),
                progress=0,
                step=0,
            )
            .returning(videos)
        )
        if begun is None:
            message = f"The worker died {ATTEMPTS} times while making this video."
            self._changed(sa.update(videos).where(mine).values(_failure("worker_crashed", message)))
        return begun

    def advance(self, row: Row, progress: int, step: int | None = None) -> bool:
        """Note how far the attempt `row` is; False: it is no longer the job's, and must stop."""
        return self._write(row, progress=progress, **({} if step is None else {"step": step}))

    def complete(self, row: Row, timings: Mapping[str, float]) -> bool:
        """Publish the attempt `row`: from now on its files are the video."""
        now, spent = time.time(), dict(timings)
        return self._write(row, status=COMPLETED, progress=100, completed_at=now, timings=spent)

    def fail(self, row: Row, code: str, message: str) -> bool:
        """End the attempt `row`, and its job, with an error."""
        return self._write(row, **_failure(code, message))

    def hand_back(self, row: Row) -> bool:
        """Queue the job of the attempt `row` again, uncounted: its worker was asked to stop."""
        left = videos.c.attempts_left + 1
        return self._write(row, status=QUEUED, progress=0, step=0, attempts_left=left)

    def cancel(self, video_id: str) -> bool:
        """Fail a job that is not over yet with code `cancelled`."""
        mine = sa.and_(videos.c.id == video_id, videos.c.status.in_(UNFINISHED))
        failure = _failure("cancelled", "The job was cancelled.")
        return self._changed(sa.update(videos).where(mine).values(failure))

    # Models, published by the workers that hold them.

    def publish_model(self, executor: str, description: Mapping[str, Any]) -> None:
        """Say that `executor` is ready and what its model can do."""
        now = time.time()
        with self._engine.begin() as connection:
            connection.execute(sa.delete(models).where(models.c.executor == executor))
            connection.execute(
                sa.insert(models).values(
                    executor=executor,
                    description=dict(description),
                    loaded_at=now,
                    heartbeat_at=now,
                )
            )

    def beat(self, executor: str) -> None:
        """Say that `executor` is alive."""
        mine = models.c.executor == executor
        self._changed(sa.update(models).where(mine).values(heartbeat_at=time.time()))

    def forget_models(self) -> None:
        """Drop what workers of an earlier service published."""
        self._changed(sa.delete(models))

    def models(self) -> list[Row]:
        """What was published, in the executors' order."""
        with self._engine.connect() as connection:
            query = sa.select(models).order_by(models.c.executor)
            return [dict(row) for row in connection.execute(query).mappings()]

    def _write(self, row: Row, **values: Any) -> bool:
        current = sa.and_(
            videos.c.id == row["id"],
            videos.c.attempt == row["attempt"],
            videos.c.status == IN_PROGRESS,
        )
        return self._changed(sa.update(videos).where(current).values(values))

    def _changed(self, statement: sa.Update | sa.Delete) -> bool:
        with self._engine.begin() as connection:
            return connection.execute(statement).rowcount > 0

    def _one(self, statement: sa.Executable) -> Row | None:
        with self._engine.begin() as connection:
            row = connection.execute(statement).mappings().first()
            return None if row is None else dict(row)


def _failure(code: str, message: str) -> dict[str, Any]:
    error = {"code": code, "message": message}
    return {"status": FAILED, "error": error, "completed_at": None}


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Writers queue up instead of failing; WAL lets readers go on meanwhile.
    connection.isolation_level = "IMMEDIATE"
    connection.execute("PRAGMA busy_timeout=30000")
    connection.execute("PRAGMA journal_mode=WAL")
