"""The one port to the durable queue; nothing else in the project knows that it is DBOS.

The API enqueues, the workers run: one workflow per video, of the same id, and a new one should
that be lost. A workflow is recorded before it runs and forgotten only once it has returned.

DBOS would run a dead worker's workflows again only when one of the same executor id is back. Each
worker process has an id of its own here, so that two are never live under one, and `recover` gives
those of a dead one to whoever comes first; `serving.caretaker` says which are dead.
"""

import logging
from collections.abc import Callable, Iterable

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, WorkflowStatus

from serving.database import UNAVAILABLE, begin_lightly, connect_args

APPLICATION = "kinetograph"
# Not DBOS's default, a hash of the source: that would strand the queued jobs at every deploy.
VERSION = "1"
QUEUE, DELIVERIES = "videos", "webhooks"
WORKFLOW, DELIVERY = "make_video", "deliver_webhook"
POLL_SECONDS = 0.2
"""How often a worker looks for jobs."""
MOST_DELIVERIES = 8
"""Webhooks that a worker sends at once: a receiver that is slow keeps few others waiting."""
LIVE = ("ENQUEUED", "DELAYED", "PENDING")
"""States of a workflow that is yet to return."""
BATCH = 500
"""Ids that are asked for at once."""

log = logging.getLogger("kinetograph.jobs")


class JobQueue:
    """Jobs go in, and how they stand can be asked.

    There is no way out: a job whose row says that it is over returns as soon as it is started.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._client = DBOSClient(
            system_database_engine=engine,
            application_name=APPLICATION,
            retry_connection_errors=False,  # a request is answered, not kept waiting
        )
        self._client.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=POLL_SECONDS)
        self._client.register_queue(DELIVERIES, worker_concurrency=MOST_DELIVERIES)

    @staticmethod
    def create_tables(database_url: str) -> None:
        """Create or migrate the queue's tables; safe to repeat."""
        DBOS.migrate(database_url)

    def enqueue(self, video_id: str, priority: int) -> None:
        """Queue the job of a row that is committed; the lowest `priority` from 1 runs first.

        Safe to repeat. Once there is a row the job is durable: should the database go away before
        it is queued, the sweeper queues it.
        """
        try:
            self._enqueue(video_id, video_id, priority)
        except UNAVAILABLE:
            log.warning("%s is left to the sweeper: the database is away", video_id)

    def restore(self, video_id: str, priority: int) -> bool:
        """Queue a job again if the queue has lost it; whether it had.

        Safe to repeat and to race: the new workflow's id follows from those that there were.
        """
        known = self._workflows(workflow_id_prefix=video_id)
        lost = all(workflow.status not in LIVE for workflow in known)
        if lost:
            name = f"{video_id}.{len(known)}" if known else video_id
            self._enqueue(name, video_id, priority)
        return lost

    def settled(self, video_ids: Iterable[str]) -> set[str]:
        """Those of some jobs whose first workflow is over, or was never there."""
        left = set(video_ids)
        for batch in _batches(sorted(left)):
            known = self._workflows(workflow_ids=batch)
            left -= {workflow.workflow_id for workflow in known if workflow.status in LIVE}
        return left

    def running(self) -> dict[str, set[str]]:
        """The workflows that are being run, by the executor that took them."""
        taken: dict[str, set[str]] = {}
        for workflow in self._workflows(status="PENDING"):
            taken.setdefault(workflow.executor_id or "", set()).add(workflow.workflow_id)
        return taken

    def taken(self, executor: str) -> set[str]:
        """The workflows that make a video and that `executor` has taken."""
        mine = {"status": "PENDING", "name": WORKFLOW, "executor_id": executor}
        return {workflow.workflow_id for workflow in self._workflows(**mine)}

    def run_again(self, workflow_id: str) -> None:
        """Queue a workflow that its executor, which is the caller, has taken and does not run."""
        self._client.resume_workflow(workflow_id, queue_name=QUEUE)

    def enqueue_delivery(self, event_id: str, attempt: int) -> None:
        """Queue one try at a webhook; safe to repeat."""
        self._client.enqueue(
            {
                "workflow_name": DELIVERY,
                "queue_name": DELIVERIES,
                "workflow_id": f"{event_id}.{attempt}",
                "app_version": VERSION,
            },
            event_id,
            attempt,
        )

    def forget(self, prefix: str) -> None:
        """Drop what the queue knows of a job, or of an event, that is over."""
        known = self._workflows(workflow_id_prefix=prefix)
        self._client.delete_workflows([workflow.workflow_id for workflow in known])

    def close(self) -> None:
        """Let go of what the client holds; the engine is the caller's."""
        self._client.destroy()

    def _enqueue(self, workflow_id: str, video_id: str, priority: int) -> None:
        with begin_lightly(self._engine) as connection:
            self._client.enqueue_in_transaction(
                connection,
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": workflow_id,
                    "app_version": VERSION,
                    "priority": max(priority, 1),
                },
                video_id,
            )

    def _workflows(self, **which: str | list[str]) -> list[WorkflowStatus]:
        return self._client.list_workflows(**which, load_input=False, load_output=False)  # type: ignore[arg-type]


def run_jobs(
    database_url: str,
    executor: str,
    make_video: Callable[[str], None],
    deliver: Callable[[str, int], None],
) -> None:
    """Run jobs one at a time in a background thread, `make_video(video_id)` each, from now on.

    Webhooks are sent beside, by `deliver(event_id, attempt)`. Both record their own failures, and
    may be called again for what they have finished. `executor` names this process, and no other
    one ever.
    """
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": database_url,
            "db_engine_kwargs": {"connect_args": connect_args(database_url)},
            "application_version": VERSION,
            "executor_id": executor,
            "log_level": "ERROR",  # while the database is away it would warn at every look
        }
    )

    # How often a job is run is counted in its row, where a worker in good order costs nothing.
    @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)
    def workflow(video_id: str) -> None:
        make_video(video_id)

    @DBOS.workflow(name=DELIVERY, max_recovery_attempts=None)
    def delivery(event_id: str, attempt: int) -> None:
        deliver(event_id, attempt)

    DBOS.launch()


def recover(executor: str) -> None:
    """Give the workflows of a dead executor back to the queue; for a worker that runs jobs.

    Private to DBOS, and guarded by it: only what is still that executor's is given back, so of two
    callers one acts. `resume_workflow`, the public way, would take what another already runs.
    """
    DBOS._recover_pending_workflows([executor])


def _batches(names: list[str]) -> Iterable[list[str]]:
    return (names[start : start + BATCH] for start in range(0, len(names), BATCH))
