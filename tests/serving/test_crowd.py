"""Many who create at once are all served, and told the order in which their jobs will run."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from serving.caller import Caller
from serving.schema import CreateVideo
from serving.tables import videos
from tests.serving.idle import idle_service

ASKED = CreateVideo.parse({"prompt": "a red ball bounces", "size": "64x64"})
CROWD, EACH = 24, 4


def test_a_crowd_is_served_though_sqlite_has_no_patience_and_positions_are_the_order(
    tmp_path: Path,
) -> None:
    with idle_service(tmp_path) as service:
        # Whoever finds the database locked is turned away at once.
        engine = service.store.engine
        engine.dispose()
        sa.event.listen(engine, "connect", lambda c, _: c.execute("PRAGMA busy_timeout=0"))

        def create(number: int) -> list[str]:
            caller = Caller(f"user-{number}", "address", None)
            return [service.create(ASKED, caller).id for _ in range(EACH)]

        with ThreadPoolExecutor(CROWD) as pool:
            made = [name for names in pool.map(create, range(CROWD)) for name in names]
        queue = sa.text("SELECT workflow_uuid FROM workflow_status ORDER BY priority, created_at")
        with engine.connect() as connection:
            queued = list(connection.scalars(queue))
            turns = list(connection.scalars(sa.select(videos.c.turn)))
        told = {name: service.look(name).queue_position for name in made}
    assert sorted(turns) == [turn for turn in range(1, EACH + 1) for _ in range(CROWD)]
    assert sorted(told.values(), key=int) == list(range(CROWD * EACH))
    assert sorted(told, key=lambda name: told[name] or 0) == queued
