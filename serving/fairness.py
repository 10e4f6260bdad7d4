"""Whose job is next: fair queueing between users, inside strict priority classes.

A class waits for every higher one: `low` starves for as long as `high` or `normal` jobs keep
coming, which is what the classes are for. Inside a class users take turns (start-time fair
queueing with jobs of length 1: Goyal, Vin and Cheng 1996, section 2). A job's turn is fixed when it
is queued, so the order never changes, and one sorted table explains it.

Relies on the `videos` columns `user_id`, `priority`, `turn`, `status`, `created_at`.
"""

import sqlalchemy as sa

from serving.errors import ApiError
from serving.tables import IN_PROGRESS, QUEUED, UNFINISHED, videos

PRIORITIES = ("high", "normal", "low")
"""The classes, the first served first."""
TURNS = 1 << 28
"""Turns that a class has room for in the durable queue's 31-bit priority."""

_QUEUED, _MINE = videos.c.status == QUEUED, videos.c.user_id == sa.bindparam("user")
_COUNT = sa.select(sa.func.count()).where(_QUEUED, _MINE)
_PEERS = videos.c.priority == sa.bindparam("priority")
_FACTS = sa.select(
    *(
        sa.select(value).where(*where).scalar_subquery()
        for value, *where in (
            (sa.func.count(), _QUEUED, _MINE),
            (sa.func.max(videos.c.turn), videos.c.status == IN_PROGRESS, _PEERS),
            (sa.func.min(videos.c.turn), _QUEUED, _PEERS),
            (sa.func.max(videos.c.turn), videos.c.status.in_(UNFINISHED), _PEERS, _MINE),
        )
    )
)
"""The user's queued jobs; the latest turn that runs; the first that waits; the user's latest."""

_ORDER = videos.c.turn, videos.c.created_at, videos.c.id
_PLACE = sa.tuple_(*(sa.bindparam(column.name, type_=column.type) for column in _ORDER))
_BEFORE = sa.tuple_(*_ORDER) < _PLACE
AHEAD = {
    name: sa.or_(
        *(sa.and_(_QUEUED, videos.c.priority == higher) for higher in PRIORITIES[:number]),
        sa.and_(_QUEUED, videos.c.priority == name, _BEFORE),
    )
    for number, name in enumerate(PRIORITIES)
}
"""Which jobs are queued before a queued job of each class, whose `turn`, `created_at` and `id` are
to be bound."""


def next_turn(served: int, own: int) -> int:
    """The turn of a job that is queued now.

    served: latest turn of its class that has started. own: latest turn of the user's unfinished
    jobs in that class. Both 0 if there is none.
    """
    return max(served, own) + 1


def rank(priority: str, turn: int) -> int:
    """Both as the durable queue's one number, from 1; the lowest runs first, ties by age."""
    return PRIORITIES.index(priority) * TURNS + turn


def take_turn(connection: sa.Connection, user_id: str, priority: str, most: int) -> int | None:
    """The turn of a job about to be inserted by the caller's transaction, which it begins.

    None if `most` jobs of the user are queued. Creations are serialised from here to the commit
    (one user's on PostgreSQL, everybody's on SQLite), so neither cap nor turn can be raced.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(user_id))))
    elif connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    facts = {"user": user_id, "priority": priority}
    count, running, waiting, own = connection.execute(_FACTS, facts).one()
    if count >= most:
        return None
    # Where nothing runs, whatever was started last was just before the first that waits.
    return next_turn(max(running or 0, (waiting or 1) - 1), own or 0)


def at_cap(connection: sa.Connection, user_id: str, most: int) -> bool:
    """Whether `most` jobs of the user are queued just now."""
    return (connection.scalar(_COUNT, {"user": user_id}) or 0) >= most


def queue_full(most: int, wait: float | None) -> ApiError:
    """The refusal of a job beyond the cap; `wait`: seconds until one of the user's jobs starts."""
    message = f"You have {most} videos queued, which is the most that a user may have; "
    message += "try again when one of them has started, or cancel one."
    # Clients give up on a retry-after of more than two minutes.
    seconds = min(max(round(wait or 10), 1), 120)
    headers = {"retry-after": str(seconds)}
    return ApiError(message, code="queue_full", status=429, headers=headers)
