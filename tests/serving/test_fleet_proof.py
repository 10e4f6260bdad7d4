"""What several API processes share is shared on both databases: limits, sums, events."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from serving import tallies
from serving.egress import Egress
from serving.files import Files
from serving.jobs import JobQueue
from serving.service import Service
from serving.settings import Settings
from serving.store import Store
from serving.webhooks import Courier, Secrets, queue_due
from tests.serving.idle import TINY, finish, publish, served
from tests.serving.postgres import Postgres
from tests.serving.receiver import receiving
from tests.serving.test_privacy import found_in_tables

pytestmark = pytest.mark.proof

MOST = 7
SENTINEL = "sentinel4711"


@contextmanager
def services(folder: Path, database: str | None, count: int) -> Iterator[list[Service]]:
    """So many services on one database, each with connections of its own."""
    url = Settings(data=folder, database=database).database_url
    JobQueue.create_tables(url)
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            store = Store(url)
            stack.callback(store.close)
            store.create_tables()
            jobs = JobQueue(store.engine)
            stack.callback(jobs.close)
            egress = Egress([ip_network("127.0.0.0/8")])
            made.append(Service(store, jobs, Files(folder / "videos"), egress=egress))
        publish(made[0].store, TINY)
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres
) -> Iterator[list[Service]]:
    database = postgres.database("shared") if request.param == "postgresql" else None
    with services(tmp_path, database, 2) as made:
        yield made


def test_two_api_servers_share_limits_sums_and_events(
    pair: list[Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty requests race for seven places, a hundred additions for one sum."""
    first, second = pair
    secret = first.keys.create("shop", per_day=MOST)
    headers = {"authorization": f"Bearer {secret}"}
    with served(first) as one, served(second) as two, receiving() as receiver:
        (key,) = second.keys.list()
        Secrets(second.store.engine).rotate(key.id, 0)
        body = {"prompt": SENTINEL, "webhook_url": receiver.url}

        def ask(number: int) -> httpx.Response:
            api = (one, two)[number % 2]
            return api.post("/v1/videos", json=body, headers=headers)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(40)))
        made = [answer.json()["id"] for answer in answers if answer.is_success]
        refused = {a.json()["error"]["code"] for a in answers if not a.is_success}
        assert len(made) == MOST and refused == {"quota_exceeded"}

        def add(number: int) -> None:
            with pair[number % 2].store.transaction() as connection:
                tallies.add(connection, {("x", "a", ""): 1.0, ("x", "b", ""): 2.0})

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(add, range(100)))
        with first.store.transaction() as connection:
            assert tallies.read(connection)["x"] == {("a", ""): 100.0, ("b", ""): 200.0}

        finish(first, made[0], b"video")
        second.cancel(made[1])
        for service in pair:
            queue_due(service.store, service.jobs)
        courier = Courier(second.store, Egress([ip_network("127.0.0.0/8")]))
        for video_id in made[:2]:
            courier.deliver(video_id.replace("video_", "evt_"), 0)
        assert len(receiver.received) == 2
        monitor = {"authorization": f"Bearer {second.keys.create('graph', ['metrics'])}"}
        for api in (one, two):
            told = api.get("/metrics", headers=monitor).text
            assert 'kinetograph_jobs_total{code="cancelled",status="failed"} 1.0' in told
            assert 'kinetograph_jobs_total{code="",status="completed"} 1.0' in told
        for service in pair:
            monkeypatch.setattr(service.jobs, "settled", set)
        for video_id in made:
            assert two.delete(f"/v1/videos/{video_id}", headers=headers).is_success
        words = (SENTINEL, *(video_id.removeprefix("video_") for video_id in made))
        assert found_in_tables(first, *words) == []
        print(f"  {first.store.engine.dialect.name}: {len(made)} of 40 accepted, 100 sums added")
