"""A transaction whose process stands still keeps nobody waiting for long on PostgreSQL."""

import time
from contextlib import suppress

import pytest
import sqlalchemy as sa

from serving.database import PATIENCE_SECONDS, UNAVAILABLE, connect, connect_args
from tests.serving.postgres import Postgres


def test_what_a_url_tells_the_server_is_kept_beside_our_own() -> None:
    url = "postgresql+psycopg://me@here/name?options=-c%20search_path%3Dours"
    told = connect_args(url)["options"]
    assert told == "-c idle_in_transaction_session_timeout=5000 -c search_path=ours"
    assert connect_args("sqlite:///here.db") == {}


@pytest.mark.proof
def test_a_transaction_that_stands_still_is_ended_and_its_lock_is_free(postgres: Postgres) -> None:
    engine = connect(postgres.database("still").replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t AS SELECT 1 AS i"))
    change = sa.text("UPDATE t SET i = i + 1")
    with suppress(UNAVAILABLE[0]), engine.connect() as still:
        still.execute(change)
        begun = time.monotonic()
        with engine.begin() as other:
            other.execute(change)
        waited = time.monotonic() - begun
        with pytest.raises(UNAVAILABLE):
            still.execute(change)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT i FROM t")) == 2
    engine.dispose()
    print(f"\n  the other waited {waited:.1f} s")
    assert PATIENCE_SECONDS - 1 < waited < 2 * PATIENCE_SECONDS
