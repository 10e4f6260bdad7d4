"""The end of a video: its record, its files, what came with it and its queue entry, all together.

A video whose `expires_at` has passed is gone for whoever asks. What is left of it is removed by the
sweepers of the workers, its record last: one that is killed in between leaves a record that the
next one finds, and no file that nobody knows of.
"""

import sqlalchemy as sa

from serving.database import now
from serving.files import Files
from serving.jobs import JobQueue
from serving.store import Store, event_id
from serving.tables import UNFINISHED, videos

BATCH = 500
"""Videos that are removed at once."""
ORPHAN_SECONDS = 600.0
"""Age of inputs without a record from which nobody is about to write one."""


def remove_expired(store: Store, jobs: JobQueue, files: Files) -> list[str]:
    """Remove the videos whose time is over; gives their ids. Safe to repeat and to race.

    One that the queue is still to hand to a worker, or to see return, is left for the next call.
    """
    with store.engine.connect() as connection:
        over = videos.c.expires_at < now(connection), videos.c.status.not_in(UNFINISHED)
        query = sa.select(videos.c.id).where(*over).order_by(videos.c.expires_at).limit(BATCH)
        expired = list(connection.scalars(query))
    settled = sorted(jobs.settled(expired))
    for video_id in settled:
        _remove(store, jobs, files, video_id)
    return settled


def remove_orphans(store: Store, files: Files) -> list[str]:
    """Remove inputs whose API died before it had written their record; gives the ids.

    What a worker has made is never touched, whichever database says that there is no such video.
    """
    there = files.only_inputs(ORPHAN_SECONDS)
    orphans = [video_id for video_id in there if store.get(video_id) is None]
    for video_id in orphans:
        files.remove(video_id)
    return orphans


def discard(store: Store, jobs: JobQueue, files: Files, video_id: str) -> None:
    """Have a video removed now, with all its files; its job is stopped if it is not over."""
    store.cancel(video_id)
    store.expire(video_id)
    files.remove(video_id)
    if jobs.settled([video_id]):
        _remove(store, jobs, files, video_id)


def _remove(store: Store, jobs: JobQueue, files: Files, video_id: str) -> None:
    files.remove(video_id)
    jobs.forget(video_id)
    jobs.forget(event_id(video_id))
    store.delete(video_id)
