"""Puts right what crashes leave behind. Every worker runs one; they may all act at once.

The reaper gives the jobs of dead workers back to the queue. The sweeper queues jobs that the queue
does not know: their API died, or the database went away, between the row and the queue. Webhooks
that are due are queued, too. All rely
on the queue to let one of several callers act, and on the fence of `serving.store` should a worker
that was given up turn out to be alive after all.
"""

import logging
import math
import time
from collections.abc import Callable

import sqlalchemy as sa

from serving import safeguards
from serving.database import UNAVAILABLE
from serving.expiry import ORPHAN_SECONDS, remove_expired, remove_orphans
from serving.fairness import rank
from serving.files import Files
from serving.jobs import JobQueue, recover
from serving.leases import Lease, present, purge
from serving.store import Store
from serving.tables import UNFINISHED, videos
from serving.webhooks import queue_due

REAP_SECONDS, SWEEP_SECONDS = 1.0, 5.0
"""Time between two looks."""
SETTLE_SECONDS = 5.0
"""Age from which a job is looked at: a younger one may still be about to be queued."""

log = logging.getLogger("kinetograph.caretaker")


class Caretaker:
    """The reaper and the sweeper of one worker; `at_hand` says which job it has, if any."""

    def __init__(
        self,
        store: Store,
        jobs: JobQueue,
        files: Files,
        lease: Lease,
        at_hand: Callable[[], str | None],
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._files = files
        self._lease = lease
        self._at_hand = at_hand
        self._idle: set[str] = set()
        self._searched = -math.inf

    def run(self) -> None:
        """Look after everything, for ever; for a thread of its own."""
        swept, there = 0.0, True
        while True:
            time.sleep(REAP_SECONDS)
            try:
                if safeguards.REAPER:
                    self.reap()
                queue_due(self._store, self._jobs)
                if safeguards.SWEEPER and time.monotonic() - swept > SWEEP_SECONDS:
                    self.sweep()
                    swept = time.monotonic()
                there = True
            except UNAVAILABLE:
                if there:
                    log.warning("the database is away")
                there = False
            except Exception:  # such as memory that is short just now
                log.exception("could not look after the jobs")

    def reap(self) -> None:
        """Give the jobs of dead workers back to the queue.

        Silence counts only for one who was heard himself all the while: after an outage of the
        database everybody has been silent.
        """
        # In this order: who has a job was present before, so one who is not present now is gone.
        executors = self._jobs.running()
        alive = present(self._store.engine, self._lease.seconds if self._lease.steady else None)
        for executor in executors.keys() - alive:
            log.warning("%s is gone; queueing again: %s", executor, *executors[executor])
            recover(executor)

    def sweep(self) -> None:
        """Queue every unfinished job that the queue has lost, and what was taken and not begun."""
        unfinished = self._unfinished()
        for video_id in self._jobs.settled(unfinished):
            row = self._store.get(video_id)  # again: it may have been finished meanwhile
            unfinished_still = row is not None and row["status"] in UNFINISHED
            if unfinished_still and self._jobs.restore(video_id, unfinished[video_id]):
                log.warning("%s was lost by the queue; it is queued again", video_id)
        # Taken under this worker's name, but the answer was lost with a connection. Two looks, so
        # that one that is just being begun or ended is left alone.
        taken = self._jobs.taken(self._lease.incarnation)
        idle = {name for name in taken if name.split(".")[0] != self._at_hand()}
        for name in idle & self._idle:
            log.warning("%s was taken and not begun; it is queued again", name)
            self._jobs.run_again(name)
        self._idle = idle
        purge(self._store.engine)
        remove_expired(self._store, self._jobs, self._files)
        if time.monotonic() - self._searched > ORPHAN_SECONDS:
            for video_id in remove_orphans(self._store, self._files):
                log.warning("%s has no record; what came with it is removed", video_id)
            self._searched = time.monotonic()

    def _unfinished(self) -> dict[str, int]:
        """Ids and queue priorities of the jobs that are to be in the queue."""
        facts = videos.c.id, videos.c.priority, videos.c.turn
        old = videos.c.created_at < time.time() - SETTLE_SECONDS
        query = sa.select(*facts).where(videos.c.status.in_(UNFINISHED), old)
        with self._store.engine.connect() as connection:
            rows = connection.execute(query)
            return {row.id: rank(row.priority, row.turn) for row in rows}
