"""Every fact the service keeps: jobs, and the workers and models that serve them.

A job belongs to the attempt that started it last. Each start raises `attempt`, and every later
write compares it, so an attempt that was superseded, cancelled or deleted can write nothing.
Whatever waits for the database raises one of `serving.database.UNAVAILABLE` while it is away.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.schema import CreateColumn

from serving import tallies
from serving.database import begin_alone, connect, now
from serving.fitting import room
from serving.safeguards import FENCE
from serving.tables import (
    ATTEMPTS,
    COMPLETED,
    FAILED,
    IN_PROGRESS,
    QUEUED,
    UNFINISHED,
    Row,
    deliveries,
    metadata,
    models,
    previews,
    videos,
    workers,
)


class Store:
    """The tables of one database; `engine` is for the other parts that keep something there.

    retention: hours for which a job that is over is kept; for ever if None.
    """

    def __init__(self, url: str, retention: float | None = None) -> None:
        self.engine = connect(url)
        self._retention = retention

    def create_tables(self) -> None:
        """Create what is absent, columns and indexes included; safe to repeat, and at once."""
        with self.engine.begin() as connection:
            begin_alone(connection)
            for table in (workers, models):  # written anew at every start of a worker
                if _columns(connection, table) != set(table.columns.keys()):
                    table.drop(connection, checkfirst=True)
            metadata.create_all(connection)
            present = _columns(connection, videos)
            for column in [c for c in videos.columns if c.name not in present]:
                definition = CreateColumn(column).compile(connection)
                connection.execute(sa.text(f"ALTER TABLE videos ADD COLUMN {definition}"))
            for index in videos.indexes:
                index.create(connection, checkfirst=True)

    def transaction(self) -> AbstractContextManager[sa.Connection]:
        """A connection whose writes are committed together, or not at all."""
        return self.engine.begin()

    def close(self) -> None:
        """Let go of every connection."""
        self.engine.dispose()

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

    def page(
        self,
        after: Row | None,
        limit: int,
        newest_first: bool,
        key_id: str | None = None,
        which: Sequence[sa.ColumnElement[bool]] = (),
    ) -> list[Row]:
        """Up to `limit` jobs by age, from the one that follows `after`, without the expired.

        key_id: of the key whose jobs are meant; everybody's if None. which: what they must meet.
        """
        age = sa.tuple_(videos.c.created_at, videos.c.id)
        kept = sa.or_(videos.c.expires_at.is_(None), videos.c.expires_at > time.time())
        query = sa.select(videos).where(kept, *which).limit(limit)
        if key_id is not None:
            query = query.where(videos.c.key_id == key_id)
        if after is not None:
            mark = sa.tuple_(after["created_at"], after["id"])
            query = query.where(age < mark if newest_first else age > mark)
        columns = (videos.c.created_at, videos.c.id)
        query = query.order_by(*(c.desc() if newest_first else c.asc() for c in columns))
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def delete(self, video_id: str) -> bool:
        """Forget a job, what was to be told of it, and that others are its remixes.

        Whether there was one.
        """
        with self.engine.begin() as connection:
            for told in (deliveries, previews):
                connection.execute(sa.delete(told).where(told.c.video_id == video_id))
            remixes = sa.update(videos).where(videos.c.source_id == video_id)
            connection.execute(remixes.values(source_id=None))
            forgetting = sa.delete(videos).where(videos.c.id == video_id)
            return connection.execute(forgetting).rowcount > 0

    def expire(self, video_id: str) -> None:
        """Have a job's time be over; its key may be used again."""
        gone = {"expires_at": time.time(), "idempotency_key": None}
        self._changed(sa.update(videos).where(videos.c.id == video_id).values(gone))

    # Jobs, as a worker sees them.

    def start(self, video_id: str, executor: str) -> Row | None:
        """Take an unfinished job as a new attempt; None if there is no such job, or it is over.

        A job whose attempts are spent is failed with code `worker_crashed` instead.
        """
        mine = sa.and_(videos.c.id == video_id, videos.c.status.in_(UNFINISHED))
        taking = sa.update(videos).where(mine, videos.c.attempts_left > 0)
        taking = taking.values(
            status=IN_PROGRESS,
            attempt=videos.c.attempt + 1,
            attempts_left=videos.c.attempts_left - 1,
            owner=executor,
            started_at=time.time(),
            progress=0,
            step=0,
            step_at=time.time(),
        )
        with self.engine.begin() as connection:
            begun = connection.execute(taking.returning(videos)).mappings().first()
            if begun is not None:
                tallies.add(connection, tallies.began(dict(begun)))
        if begun is None:
            message = f"The worker died {ATTEMPTS} times while making this video."
            self._end(mine, self._failure("worker_crashed", message))
        return None if begun is None else dict(begun)

    def advance(self, row: Row, progress: int, step: int | None = None) -> bool:
        """Note how far the attempt `row` is; False: it is no longer the job's, and must stop."""
        known = {} if step is None else {"step": step}
        return self._write(row, progress=progress, step_at=time.time(), **known)

    def holds(self, row: Row) -> bool:
        """Whether the job is still the attempt `row`'s; a look that locks nothing."""
        with self.engine.connect() as connection:
            return connection.scalar(sa.select(videos.c.id).where(_held_by(row))) is not None

    def amend(self, row: Row, resolved: Mapping[str, Any]) -> bool:
        """Note what the attempt `row` has made of its request."""
        return self._write(row, resolved=dict(resolved))

    def complete(self, row: Row, timings: Mapping[str, float]) -> bool:
        """Publish the attempt `row`: from now on its files are the video."""
        now = time.time()
        values = {
            "status": COMPLETED,
            "progress": 100,
            "step": videos.c.steps,
            "completed_at": now,
            "timings": dict(timings),
            "worker_seconds": now - row["started_at"],
            "expires_at": self._expiry(),
        }
        return self._end(_held_by(row), values) or self._is_completed_by(row)

    def fail(self, row: Row, code: str, message: str) -> bool:
        """End the attempt `row`, and its job, with an error."""
        return self._end(_held_by(row), self._failure(code, message))

    def hand_back(self, row: Row) -> bool:
        """Queue the job of the attempt `row` again, uncounted: its worker was asked to stop."""
        left = videos.c.attempts_left + 1
        begun = {"progress": 0, "step": 0, "started_at": None}
        return self._write(row, status=QUEUED, attempts_left=left, **begun)

    def cancel(self, video_id: str) -> bool:
        """Fail a job that is not over yet with code `cancelled`."""
        mine = sa.and_(videos.c.id == video_id, videos.c.status.in_(UNFINISHED))
        return self._end(mine, self._failure("cancelled", "The job was cancelled."))

    # What the workers publish of themselves; they write it through `serving.leases`.

    def models(self, lease: float) -> list[Row]:
        """What is served, the default first, each as the worker with least room describes it.

        Any of those that were heard within `lease` seconds may take a job. Where there is none, the
        one seen last is believed until another takes its slot, so that jobs can be queued while it
        restarts. With that worker's `heartbeat_at` and `started_at`, 0 if it is gone.
        """
        seen = sa.func.coalesce(workers.c.heartbeat_at, 0.0).label("heartbeat_at")
        since = sa.func.coalesce(workers.c.started_at, 0.0).label("started_at")
        same = models.c.executor == workers.c.executor
        found: dict[str, list[Row]] = {}
        with self.engine.connect() as connection:
            heard = (seen > now(connection) - lease).label("heard")
            query = sa.select(models, seen, since, heard).outerjoin(workers, same)
            for row in connection.execute(
                query.order_by(models.c.position, seen.desc())
            ).mappings():
                found.setdefault(row["name"], []).append(dict(row))
        return [
            min([row for row in rows if row["heard"]] or rows[:1], key=_room)
            for rows in found.values()
        ]

    def _failure(self, code: str, message: str) -> dict[str, Any]:
        error = {"code": code, "message": message}
        ended = {"completed_at": None, "expires_at": self._expiry()}
        return {"status": FAILED, "error": error, **ended}

    def _expiry(self) -> float | None:
        return None if self._retention is None else time.time() + 3600 * self._retention

    def _write(self, row: Row, **values: Any) -> bool:
        return self._changed(sa.update(videos).where(_held_by(row)).values(values))

    def _end(self, which: sa.ColumnElement[bool], values: Row) -> bool:
        """Have one job be over, together with what is to be told of it; whether it was not yet."""
        ending = sa.update(videos).where(which).values(dict(values)).returning(videos)
        with self.engine.begin() as connection:
            found = connection.execute(ending).mappings().first()
            row = None if found is None else dict(found)
            if row is not None:
                tallies.add(connection, tallies.ended(row, time.time()))
                if row["request"].get("webhook_url"):
                    connection.execute(sa.insert(deliveries).values(_event(row)))
        return row is not None

    def _is_completed_by(self, row: Row) -> bool:
        # A commit whose answer was lost with the connection: the caller has come again.
        latest = self.get(row["id"])
        attempt = (COMPLETED, row["attempt"])
        return latest is not None and (latest["status"], latest["attempt"]) == attempt

    def _changed(self, statement: sa.Update | sa.Delete) -> bool:
        with self.engine.begin() as connection:
            return connection.execute(statement).rowcount > 0

    def _one(self, statement: sa.Executable) -> Row | None:
        with self.engine.begin() as connection:
            row = connection.execute(statement).mappings().first()
            return None if row is None else dict(row)


def _held_by(row: Row) -> sa.ColumnElement[bool]:
    """That a job is still the attempt `row`'s."""
    mine: sa.ColumnElement[bool] = videos.c.id == row["id"]
    if not FENCE:
        return mine
    latest = videos.c.attempt == row["attempt"]
    running: sa.ColumnElement[bool] = videos.c.status == IN_PROGRESS
    return sa.and_(mine, latest, running)


def _room(row: Row) -> float:
    return room(row["description"])


def event_id(video_id: str) -> str:
    """The id of the one event by which the end of a job is told, however often."""
    return video_id.replace("video_", "evt_")


def _event(row: Row) -> dict[str, Any]:
    """What is to be told of a job that is over; a job ends once, so its event has one id."""
    event = {"event_id": event_id(row["id"]), "video_id": row["id"]}
    event |= {"key_id": row["key_id"], "url": row["request"]["webhook_url"]}
    return event | {
        "type": f"video.{row['status']}",
        "created_at": time.time(),
        "due_at": time.time(),
    }


def _columns(connection: sa.Connection, table: sa.Table) -> set[str]:
    inspector = sa.inspect(connection)
    if not inspector.has_table(table.name):
        return set()
    return {column["name"] for column in inspector.get_columns(table.name)}
