"""The one database, SQLite or PostgreSQL: connections, its clock, and what its absence is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

UNAVAILABLE = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)
"""What a statement raises while the database is away, locked or full; a later try may succeed."""

PATIENCE_SECONDS = 5
"""How long a statement waits for a lock on SQLite, for a connection, or for a silent server.

And how long PostgreSQL waits for the next statement of a transaction before it ends the session: a
process that was stopped in between would hold its locks for as long as it stands still.
"""
_STOOD_STILL = "25P03"
"""SQLSTATE of a statement in a session that was ended so."""

_POSTGRES = {
    "connect_timeout": PATIENCE_SECONDS,
    "tcp_user_timeout": 1000 * PATIENCE_SECONDS,  # a server that vanished without a word
    "application_name": "kinetograph",
}


def connect(url: str) -> sa.Engine:
    """The pool of connections to `url`; it connects when it is first used."""
    backend = sa.make_url(url).get_backend_name()
    engine = sa.create_engine(
        url,
        connect_args=connect_args(url),
        pool_size=20,  # FastAPI answers in 40 threads
        max_overflow=20,
        pool_timeout=PATIENCE_SECONDS,
        pool_pre_ping=backend == "postgresql",
        hide_parameters=True,  # an error is logged, and a prompt would be with it
    )
    if backend == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
    else:
        sa.event.listen(engine, "handle_error", _on_error)
    return engine


def connect_args(url: str) -> dict[str, Any]:
    """What the driver is to be told for `url`."""
    parts = sa.make_url(url)
    if parts.get_backend_name() != "postgresql":
        return {}
    ending = f"-c idle_in_transaction_session_timeout={1000 * PATIENCE_SECONDS}"
    return {**_POSTGRES, "options": f"{ending} {parts.query.get('options', '')}".strip()}


def reason(error: Exception) -> str:
    """What the database itself says, in a line."""
    lines = str(getattr(error, "orig", error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def begin_alone(connection: sa.Connection) -> None:
    """Begin a transaction that no other of this kind runs beside, on either database."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(0x6B696E65746F)))


@contextmanager
def begin_lightly(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that a power cut, but no crash of a process, may undo: it waits for no disk.

    Only for what is made good again, such as a queue entry by the sweeper.
    """
    with engine.connect() as connection:
        if engine.dialect.name != "sqlite":
            connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            yield connection
            return connection.commit()
        connection.exec_driver_sql("PRAGMA synchronous=NORMAL")
        try:
            yield connection
            connection.commit()
        finally:
            connection.rollback()
            connection.exec_driver_sql("PRAGMA synchronous=FULL")


def now(connection: sa.Connection) -> sa.ColumnElement[float]:
    """Seconds since 1970 by the database's clock, which all machines of a fleet share."""
    if connection.dialect.name == "sqlite":
        return (sa.func.julianday("now", type_=sa.Float) - 2440587.5) * 86400.0
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)


def _on_error(context: sa.engine.ExceptionContext) -> None:
    # The driver calls it internal, but it is as if the connection had been lost.
    if getattr(context.original_exception, "sqlstate", None) == _STOOD_STILL:
        raise sa.exc.OperationalError(
            context.statement, None, context.original_exception, hide_parameters=True
        ) from context.original_exception


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # Writers queue up instead of failing at once; WAL lets readers go on meanwhile.
    connection.isolation_level = "IMMEDIATE"
    connection.execute(f"PRAGMA busy_timeout={1000 * PATIENCE_SECONDS}")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten
