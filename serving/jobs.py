"""The one port to the durable queue; nothing else in the project knows that it is DBOS.

The API enqueues, a worker process runs: one workflow per video, of the same id. A workflow is
recorded before it runs and forgotten only once it has returned, so the jobs of a killed worker are
run again when a worker with its executor id is back.
"""

from collections.abc import Callable

import sqlalchemy as sa
from dbos import DBOS, DBOSClient

APPLICATION = "kinetograph"
# Not DBOS's default, a hash of the source: that would strand the queued jobs at every deploy.
VERSION = "1"
QUEUE = "videos"
WORKFLOW = "make_video"
POLL_SECONDS = 0.2
"""How often a worker looks for jobs."""


class JobQueue:
    """The API's side: jobs go in.

    There is no way out: a job whose row says that it is over returns as soon as it is started.
    """

    def __init__(self, database_url: str) -> None:
        self._client = DBOSClient(system_database_url=database_url, application_name=APPLICATION)
        self._client.register_queue(QUEUE, worker_concurrency=1, polling_interval_sec=POLL_SECONDS)

    @staticmethod
    def create_tables(database_url: str) -> None:
        """Create or migrate the queue's tables; safe to repeat."""
        DBOS.migrate(database_url)

    def enqueue(self, connection: sa.Connection, video_id: str) -> None:
        """Queue a job within the caller's transaction: no row without a job, and no job without."""
        self._client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": WORKFLOW,
                "queue_name": QUEUE,
                "workflow_id": video_id,
                "app_version": VERSION,
            },
            video_id,
        )

    def forget(self, video_id: str) -> None:
        """Drop what the queue knows of a job that is over."""
        self._client.delete_workflow(video_id)

    def close(self) -> None:
        """Let go of every connection."""
        self._client.destroy()


def run_jobs(database_url: str, executor: str, make_video: Callable[[str], None]) -> None:
    """Run jobs one at a time in a background thread, `make_video(video_id)` each, from now on.

    `make_video` records its own failures; it may be called again for a job that it has finished.
    `executor` names this slot and must never be live twice: its unfinished jobs are ours to redo.
    """
    DBOS(
        config={
            "name": APPLICATION,
            "system_database_url": database_url,
            "application_version": VERSION,
            "executor_id": executor,
            "log_level": "WARNING",
        }
    )

    @DBOS.workflow(name=WORKFLOW)
    def workflow(video_id: str) -> None:
        make_video(video_id)

    DBOS.launch()
