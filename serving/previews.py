"""How a job looks so far, for whoever watches it.

A worker draws nothing unless somebody looks, and what it draws is in the database, as it may run on
another machine than the API that is asked. A preview is gone with its job, or soon after the last
look at it.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from serving.database import now
from serving.tables import previews

WATCH_SECONDS = 6.0
"""For how long one look counts as watching."""
KEPT_SECONDS = 60.0
"""For how long a preview is kept that nobody watches any more."""


@dataclass(frozen=True)
class Preview:
    """An animated WebP of the clip as it looked after so many steps of an attempt."""

    attempt: int
    step: int
    image: bytes


class Previews:
    """The previews in one database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def look(self, video_id: str, seen: Preview | None = None) -> Preview | None:
        """Watch a job; gives its preview if there is another one than was `seen`."""
        with self._engine.connect() as connection:
            instant = connection.scalar(sa.select(now(connection))) or 0.0
            mine = previews.c.video_id == video_id
            row = connection.execute(sa.select(previews).where(mine)).first()
        if row is None or row.watched_until < instant + WATCH_SECONDS / 2:
            self._watch(video_id, instant)
        if row is None or row.image is None or (seen and (row.attempt, row.step) == _mark(seen)):
            return None
        return Preview(row.attempt, row.step, row.image)

    def wanted(self, video_id: str) -> bool:
        """Whether somebody watches a job."""
        with self._engine.connect() as connection:
            watched = previews.c.video_id == video_id, previews.c.watched_until > now(connection)
            return connection.scalar(sa.select(previews.c.video_id).where(*watched)) is not None

    def put(self, video_id: str, preview: Preview) -> None:
        """Show a preview to those who watch, in place of an earlier one."""
        earlier = previews.c.video_id == video_id, previews.c.attempt <= preview.attempt
        values = {"attempt": preview.attempt, "step": preview.step, "image": preview.image}
        with self._engine.begin() as connection:
            connection.execute(sa.update(previews).where(*earlier).values(values))

    def drop(self, video_id: str) -> None:
        """Forget the preview of a job that is over."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(previews).where(previews.c.video_id == video_id))

    def _watch(self, video_id: str, instant: float) -> None:
        until = {"watched_until": instant + WATCH_SECONDS}
        mine, old = previews.c.video_id == video_id, previews.c.watched_until
        with self._engine.begin() as connection:
            connection.execute(sa.delete(previews).where(old < instant - KEPT_SECONDS))
            if connection.execute(sa.update(previews).where(mine).values(until)).rowcount:
                return
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(previews).values(video_id=video_id, **until))
        except IntegrityError:
            pass  # another who watches was first


def _mark(preview: Preview) -> tuple[int, int]:
    return preview.attempt, preview.step
