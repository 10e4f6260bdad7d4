"""A worker's hold on its slot: one row, renewed every second, and its silence is its death.

A slot is a place for one worker process at a time, such as one GPU; every process that holds it is
a new incarnation. The silence is measured by the database's clock, so that machines need not agree
on the time. What the worker serves is published under its slot.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from serving.database import PATIENCE_SECONDS, begin_alone, now
from serving.tables import models, workers

HEARTBEAT_SECONDS = 1.0
GATHER_SECONDS = PATIENCE_SECONDS + 2 * HEARTBEAT_SECONDS
"""Time in which all who live are heard again after the database was away."""
FORGET_SECONDS = 3600.0
LEFT = "left"
"""State of a worker that has gone in good order, after handing back its job."""

log = logging.getLogger("kinetograph.leases")


class SlotTaken(Exception):
    """Another worker that is alive holds the slot."""


class Lease:
    """A slot that is held, or about to be, by this process."""

    def __init__(self, engine: sa.Engine, slot: str, device: str, seconds: float) -> None:
        self._engine = engine
        self._slot = slot
        self._device = device
        self.seconds = seconds
        self.incarnation = f"{slot}.{uuid4().hex[:8]}"
        self._steady_since, self._beaten_at = math.inf, -math.inf

    def take(self) -> None:
        """Take the slot, if need be as soon as its holder has been silent for too long.

        Raises:
            SlotTaken: if the holder is not silent.
        """
        deadline = time.monotonic() + self.seconds + 2 * HEARTBEAT_SECONDS
        while not self._try_to_take():
            if time.monotonic() > deadline:
                message = f"The slot {self._slot} is held by another worker; choose one by --slot."
                raise SlotTaken(message)
            time.sleep(HEARTBEAT_SECONDS / 2)

    def _try_to_take(self) -> bool:
        mine = workers.c.executor == self._slot
        with self._engine.begin() as connection:
            begin_alone(connection)
            clock = now(connection)
            fresh = sa.and_(workers.c.heartbeat_at > clock - self.seconds, workers.c.state != LEFT)
            if connection.scalar(sa.select(workers.c.incarnation).where(mine, fresh)):
                return False
            connection.execute(sa.delete(workers).where(mine))
            row = {"executor": self._slot, "incarnation": self.incarnation, "state": "starting"}
            times = {"heartbeat_at": clock, "started_at": clock}
            connection.execute(sa.insert(workers).values(device=self._device, **row, **times))
        return True

    def hold(self, lost: Callable[[], None]) -> None:
        """Say every second that this process is alive; call `lost` once another has its slot.

        For a thread of its own. Kernels run without the interpreter's lock, so that none starves
        it; a process that is frozen, or hangs as a whole, falls silent, as it should.
        """
        heard = True
        while True:
            try:
                if not self._beat():
                    return lost()
                heard = True
            except Exception as error:  # whatever it is, only silence may end the lease
                if heard:
                    log.warning("cannot be heard: %s", type(error).__name__)
                heard = False
            time.sleep(HEARTBEAT_SECONDS)

    def _beat(self) -> bool:
        with self._engine.begin() as connection:
            renewed = self._update(connection, heartbeat_at=now(connection))
        beaten_at = time.time()
        # A suspended machine and a lost database both show as a gap.
        if self._gap(beaten_at):
            self._steady_since = beaten_at
        self._beaten_at = beaten_at
        return renewed

    @property
    def steady(self) -> bool:
        """Whether this process has been heard for so long that others would have been, too."""
        instant = time.time()
        return not self._gap(instant) and instant - self._steady_since > GATHER_SECONDS

    def _gap(self, instant: float) -> bool:
        return abs(instant - self._beaten_at) > PATIENCE_SECONDS

    def publish(self, descriptions: Sequence[Mapping[str, Any]]) -> None:
        """Say what is served here, the default first, and that jobs are taken from now on."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(models).where(models.c.executor == self._slot))
            for position, described in enumerate(descriptions):
                row = {"executor": self._slot, "name": described["name"], "position": position}
                values = row | {"description": dict(described)}
                connection.execute(sa.insert(models).values(values))
            self._update(connection, state="ready")

    def leave(self) -> None:
        """Give the slot back; what it served stays known for the worker that comes next."""
        with self._engine.begin() as connection:
            self._update(connection, state=LEFT, heartbeat_at=0.0)

    def _update(self, connection: sa.Connection, **values: Any) -> bool:
        mine = sa.and_(workers.c.executor == self._slot, workers.c.incarnation == self.incarnation)
        return connection.execute(sa.update(workers).where(mine).values(values)).rowcount > 0


def present(engine: sa.Engine, seconds: float | None) -> set[str]:
    """Incarnations that may be alive: not gone in good order, nor silent for `seconds`, if given.

    An incarnation that is not here was followed by another in its slot: it is dead, or will be
    told so by its next heartbeat.
    """
    with engine.connect() as connection:
        query = sa.select(workers.c.incarnation).where(workers.c.state != LEFT)
        if seconds is not None:
            query = query.where(workers.c.heartbeat_at > now(connection) - seconds)
        return set(connection.scalars(query))


def evict(engine: sa.Engine, slot: str) -> None:
    """Clear a slot whose worker is known to be dead, so that the next need not wait."""
    with engine.begin() as connection:
        connection.execute(sa.delete(workers).where(workers.c.executor == slot))


def purge(engine: sa.Engine) -> None:
    """Drop the workers that have been silent for `FORGET_SECONDS`, and what they served."""
    with engine.begin() as connection:
        stale = workers.c.heartbeat_at < now(connection) - FORGET_SECONDS
        slots = sa.select(workers.c.executor).where(stale)
        connection.execute(sa.delete(models).where(models.c.executor.in_(slots)))
        connection.execute(sa.delete(workers).where(stale))


def forget(engine: sa.Engine, slots: Sequence[str]) -> None:
    """Drop what was published by the workers that held some slots before."""
    with engine.begin() as connection:
        for table in (workers, models):
            connection.execute(sa.delete(table).where(table.c.executor.in_(slots)))
