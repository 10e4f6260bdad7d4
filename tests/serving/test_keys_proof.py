"""A fleet as it faces the internet: two API processes, a worker and keys on one PostgreSQL."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from serving.jobs import JobQueue
from serving.service import Service
from tests.serving.conftest import EXAMPLES, ROOT
from tests.serving.fleet import Fleet
from tests.serving.postgres import Postgres
from tests.serving.test_isolation import NAMING, UNKNOWN, answer, ask
from tests.serving.test_privacy import found_in_files, found_in_tables

pytestmark = pytest.mark.proof

PER_MINUTE, PER_DAY, ASKED = 5, 8, 30
SENTINEL = "sentinel4711"


@pytest.fixture(scope="module")
def fleets(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> Iterator[tuple[Fleet, Fleet]]:
    """Two APIs over one folder and database, the first of which logs prompts, and a worker."""
    folder, url = tmp_path_factory.mktemp("keys"), postgres.database("keys")
    one, two = (Fleet("postgresql", checkpoint, folder, url) for _ in range(2))
    try:
        one.start_api("api", "--logs", "json", "--log-prompts", "yes")
        (folder / "api.log").rename(folder / "telling.log")
        two.start_api("api", "--logs", "json")
        one.ready(one.start_worker("a", "--logs", "json"))
        yield one, two
    finally:
        one.close()
        two.close()


def kinetograph(fleet: Fleet, *words: str) -> str:
    """What the command prints that an operator gives on this fleet's database."""
    assert fleet.database
    command = [sys.executable, "-m", "serving.cli", *words, "--database", fleet.database]
    done = subprocess.run(
        [*command, "--data", str(fleet.data)],
        cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def client(fleet: Fleet, secret: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.Client(base_url=fleet.http.base_url, headers=headers, trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def shop(fleets: tuple[Fleet, Fleet]) -> Iterator[list[httpx.Client]]:
    """The holder of a key with limits, as a client of either API."""
    limits = ["--per-minute", str(PER_MINUTE), "--per-day", str(PER_DAY)]
    secret = kinetograph(fleets[0], "keys", "create", "shop", *limits)
    clients = [client(fleet, secret) for fleet in fleets]
    yield clients
    for each in clients:
        each.close()


@pytest.fixture(scope="module")
def other(fleets: tuple[Fleet, Fleet]) -> Iterator[list[httpx.Client]]:
    """Another key's."""
    secret = kinetograph(fleets[1], "keys", "create", "other")
    clients = [client(fleet, secret) for fleet in fleets]
    yield clients
    for each in clients:
        each.close()


def burst(clients: list[httpx.Client], count: int) -> list[httpx.Response]:
    """So many requests at once, by turns to either API."""

    def create(number: int) -> httpx.Response:
        body = {"prompt": EXAMPLES[0], "size": "64x64", "user": f"u{number}"}
        return clients[number % 2].post("/v1/videos", json=body)

    with ThreadPoolExecutor(10) as pool:
        return list(pool.map(create, range(count)))


def wait_for_a_minute(least: float) -> None:
    """Until so many seconds are left of the minute that the limit is counted in."""
    if 60 - time.time() % 60 < least:
        time.sleep(60 - time.time() % 60 + 0.1)


def test_limits_hold_to_the_request_over_two_api_processes(
    fleets: tuple[Fleet, Fleet], shop: list[httpx.Client], other: list[httpx.Client]
) -> None:
    """Exactly so many a minute and a day, however many ask where; another key is untouched."""
    made, told = 0, []
    while made < PER_DAY:
        wait_for_a_minute(30)
        answers = burst(shop, ASKED)
        accepted = [a for a in answers if a.status_code == 200]
        refused = [a for a in answers if a.status_code == 429]
        assert len(accepted) + len(refused) == ASKED
        assert len(accepted) == min(PER_MINUTE, PER_DAY - made)
        made += len(accepted)
        last = made == PER_DAY
        codes = {a.json()["error"]["code"] for a in refused}
        assert codes == ({"quota_exceeded"} if last else {"rate_limit_exceeded"})
        limit = f"{PER_DAY} videos a day" if last else f"{PER_MINUTE} videos a minute"
        assert all(limit in a.json()["error"]["message"] for a in refused)
        longest = 86_400 if last else 60
        assert all(0 < int(a.headers["retry-after"]) <= longest for a in refused)
        told.append(f"{len(accepted)} of {ASKED}")
        assert burst(other, 2)[0].status_code == 200
        if not last:
            time.sleep(60 - time.time() % 60 + 0.1)
    for api in shop:
        videos = api.get("/v1/videos", params={"limit": 100}).json()["data"]
        assert len(videos) == PER_DAY
        fleets[0].finish(*(video["id"] for video in videos))
    print(f"  two API processes, PostgreSQL: {', '.join(told)} accepted, then {PER_DAY} in the day")


def test_a_key_of_either_api_sees_its_own_alone_and_its_deletion_leaves_nothing(
    fleets: tuple[Fleet, Fleet], shop: list[httpx.Client], other: list[httpx.Client]
) -> None:
    one, two = fleets
    response = other[0].post("/v1/videos", json={"prompt": f"{SENTINEL} a cat", "size": "64x64"})
    theirs = response.json()["id"]
    assert one.finish(theirs)[0]["status"] == "completed"
    for api in shop:
        for request, body in NAMING.items():
            foreign = answer(ask(api, request, theirs, body), theirs)
            assert foreign == answer(ask(api, request, UNKNOWN, body), UNKNOWN), request
            assert foreign[0] in (400, 404)
    file = other[1].get(f"/v1/videos/{theirs}/content").content
    told = other[1].post("/v1/videos/verify", files={"video": file}).json()
    assert told["verdict"] == "trusted"
    jobs = JobQueue(two.store.engine)
    fleet = Service(two.store, jobs, None)  # type: ignore[arg-type]
    try:
        one.until(lambda: theirs in jobs.settled([theirs]))
        assert found_in_tables(fleet, SENTINEL) and found_in_files(one.data, theirs)
        assert other[1].delete(f"/v1/videos/{theirs}").is_success
        words = (SENTINEL, theirs, theirs.removeprefix("video_"))
        one.until(lambda: found_in_tables(fleet, *words) == [])
        assert found_in_files(one.data, *words) == []
    finally:
        jobs.close()
    # Prompts are in the log of the API that was told to log them, and in no other.
    assert SENTINEL in (one.folder / "telling.log").read_text()
    others = [two.folder / "api.log", *(worker.log for worker in one.workers)]
    assert all(SENTINEL not in log.read_text() for log in others)
    request_id = response.headers["x-request-id"]
    assert request_id in (one.folder / "telling.log").read_text()
    log = one.workers[0].log.read_text().splitlines()
    lines = [json.loads(line) for line in log if line[:1] == "{"]  # loading shows its progress
    begun = [line["request_id"] for line in lines if re.search("attempt 1 begins", line["event"])]
    assert request_id in begun
    for name in ("shop", "other"):
        assert name in kinetograph(two, "keys", "list")
    kinetograph(two, "keys", "revoke", "other")
    assert [api.get("/v1/videos").status_code for api in other] == [401, 401]
