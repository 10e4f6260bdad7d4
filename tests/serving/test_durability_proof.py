"""No job is lost, against real processes, on SQLite and on PostgreSQL at once; figures are printed.

Each safeguard is also switched off once, to see what it guards against come true.
"""

import resource
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from serving.jobs import JobQueue
from serving.tables import ATTEMPTS, IN_PROGRESS, QUEUED, videos
from tests.serving.fleet import Fleet, Process, Run, Scenario, both, on_each, stop
from tests.serving.postgres import Postgres

pytestmark = pytest.mark.proof

BOUND = 30.0
"""Seconds after a worker's death within which its job runs again, at the default lease of 15:
taken over by another worker, or by its own successor, whose start is part of them."""
LONG = 150
"""Steps of a job that takes a second or more, with a middle to be hurt in."""
SLOW = "256x256"
"""Half a second a step, so that every one of them is noted in the job's row."""
LARGE = "512x512"
"""Takes tensors of 33 MB, which no worker has in store, and fills 1.3 MB."""
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def fleets(
    proof_model: Path, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> Iterator[list[Fleet]]:
    """An API with two workers on each database, which all the proofs share and repair."""
    with both("fleet", proof_model, tmp_path_factory.mktemp("fleet"), postgres) as fleets:
        on_each(fleets, started)
        yield fleets


def started(fleet: Fleet) -> str:
    fleet.start_api()
    begun = time.monotonic()
    fleet.pair()
    return f"two workers ready after {time.monotonic() - begun:.1f} s"


def job_at(fleet: Fleet, worker: Process) -> str:
    """Wait until a worker is in the middle of a job; give its id."""
    mine = videos.c.owner == worker.slot, videos.c.status == IN_PROGRESS, videos.c.step >= 5
    found: list[str] = []

    def look() -> bool:
        with fleet.store.engine.connect() as connection:
            found[:] = connection.scalars(sa.select(videos.c.id).where(*mine))
        return bool(found)

    fleet.until(look)
    return found[0]


def run_again(fleet: Fleet, video_id: str, since: float) -> float:
    """Wait for the next attempt at a job that ran at time `since`; give the seconds it took."""

    def later() -> list[Run]:
        return [run for run in fleet.runs(video_id) if run.began > since]

    fleet.until(lambda: bool(later()))
    return later()[0].began - since


def check_all_done_and_never_two_at_once(fleet: Fleet, jobs: list[str]) -> None:
    assert [row["status"] for row in fleet.finish(*jobs)] == ["completed"] * len(jobs)
    for job in jobs:
        runs = fleet.runs(job)
        assert all(one.ended <= two.began for one, two in zip(runs, runs[1:], strict=False)), runs
        assert [run.how for run in runs].count("completed") == 1


def worker_killed(fleet: Fleet) -> str:
    """Killed in the middle of a job: once for good, so that another takes over; once restarted."""
    gone, other = fleet.pair()
    jobs = [fleet.create(40) for _ in range(10)]
    hurt = job_at(fleet, gone)
    gone.signal(signal.SIGKILL)
    assert gone.killed_at
    taken_over = run_again(fleet, hurt, gone.killed_at)
    jobs += [fleet.create(40) for _ in range(10)]
    hurt = job_at(fleet, other)
    other.signal(signal.SIGKILL)
    new = fleet.start_worker(other.slot)
    assert other.killed_at
    fleet.ready(new)
    started = time.time() - other.killed_at
    restarted = run_again(fleet, hurt, other.killed_at)
    check_all_done_and_never_two_at_once(fleet, jobs)
    told = (
        f"{len(jobs)} of {len(jobs)} completed, none twice at once; run again by another worker "
        f"{taken_over:.1f} s after the kill, by the restarted one {restarted:.1f} s after it, of "
        f"which it took {started:.1f} s to start"
    )
    assert max(taken_over, restarted) < BOUND, told
    return told


def worker_frozen(fleet: Fleet) -> str:
    """Frozen past its lease and woken while another runs its job."""
    pair = fleet.pair()
    job = fleet.create(4 * LONG)
    frozen = fleet.under_way(job)
    (other,) = (worker for worker in pair if worker is not frozen)
    since = time.time()
    fleet.freeze(frozen)
    try:
        fleet.until(lambda: fleet.row(job)["owner"] == other.slot)
        silent = time.time() - since
        fleet.until(lambda: fleet.row(job)["step"] >= 5)
    finally:
        frozen.signal(signal.SIGCONT)
    fleet.finish(job)
    fleet.until(lambda: len([r for r in fleet.runs(job) if r.how != "killed"]) == 2)
    ends = {run.slot: run.how for run in fleet.runs(job)}
    assert ends == {frozen.slot: "stopped", other.slot: "completed"}, ends
    assert fleet.files(job) == ["2.jpg", "2.mp4", "2.webp"]
    assert fleet.http.get(f"/v1/videos/{job}/content").content[4:8] == b"ftyp"
    return f"taken over after {silent:.1f} s; one artifact, the late attempt was refused"


@contextmanager
def writers_stalled(fleet: Fleet, what: str) -> Iterator[None]:
    """Hold up whoever does that to SQLite, such as INSERT ON videos, in the middle of its write."""
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000000)"
    with sqlite3.connect(fleet.data / "kinetograph.db", timeout=60) as connection:
        connection.execute(f"CREATE VIEW slow AS {count} SELECT count(*) AS c FROM n")
        connection.execute(f"CREATE TRIGGER stall BEFORE {what} BEGIN SELECT c FROM slow; END")
    try:
        yield
    finally:
        with sqlite3.connect(fleet.data / "kinetograph.db", timeout=60) as connection:
            connection.execute("DROP TRIGGER stall")
            connection.execute("DROP VIEW slow")


def stopped_after_the_row(fleet: Fleet) -> str:
    """Stop the API between a job's row and the queue; give the job's id.

    The moment lasts a millisecond or so; where it was missed, that is tried with another job.
    """
    assert fleet.api
    queue, pool = JobQueue(fleet.store.engine), ThreadPoolExecutor(1)
    for _ in range(200):
        key = f"cut-off-{time.time()}"
        pool.submit(fleet.create, 10, **{"Idempotency-Key": key})
        known = sa.select(videos.c.id).where(videos.c.idempotency_key.endswith(key))
        with fleet.store.engine.connect() as connection:
            while (job := connection.scalar(known)) is None:
                pass
        stop(fleet.api)
        time.sleep(0.1)  # by then PostgreSQL is through with what it was sent before
        if fleet.writable() and queue.settled([job]) and fleet.row(job)["status"] == QUEUED:
            queue.close()
            pool.shutdown(wait=False)  # its request is answered once the API goes on
            return str(job)
        fleet.api.send_signal(signal.SIGCONT)
    raise AssertionError("every job was in the queue before the API could be stopped")


def stranded_by_the_api(fleet: Fleet) -> str:
    """Have the API killed between insert and enqueue; give the id of the job."""
    job = stopped_after_the_row(fleet)
    assert fleet.api
    fleet.api.kill()
    fleet.api.wait()
    assert fleet.row(job)["status"] == QUEUED
    return job


def api_killed(fleet: Fleet) -> str:
    """Between the row and the queue; the client's retry with its key finds the same job."""
    fleet.pair()
    job = stranded_by_the_api(fleet)
    since = time.time()
    (row,) = fleet.finish(job)
    assert row["status"] == "completed"
    fleet.start_api()
    assert fleet.create(10, **{"Idempotency-Key": row["idempotency_key"].lstrip(":")}) == job
    return f"run {row['started_at'] - since:.1f} s after the API's death; a retry found it"


def same_key(fleet: Fleet) -> str:
    """Retries under one key, ten at once, are one job."""
    key = {"Idempotency-Key": f"once-{time.time()}"}
    with ThreadPoolExecutor(10) as pool:
        jobs = set(pool.map(lambda _: fleet.create(7, **key), range(10)))
    body = {"prompt": "a red ball", "num_inference_steps": 8}
    other = fleet.http.post("/v1/videos", json=body, headers=key)
    assert (len(jobs), other.status_code) == (1, 422)
    fleet.finish(*jobs)
    assert len(fleet.runs(jobs.pop())) == 1
    return "10 requests, 1 job, 1 run; another body under the key is refused with 422"


def cancelled(fleet: Fleet) -> str:
    """Queued and running: the one never starts, the other stops within one step."""
    fleet.pair()
    running = [fleet.create(LONG, SLOW) for _ in range(2)]
    workers = [fleet.under_way(job) for job in running]
    waiting = fleet.create(5)
    asked = {}
    for job in (waiting, *running):
        asked[job] = time.time()
        answer = fleet.http.post(f"/v1/videos/{job}/cancel").json()
        assert (answer["status"], answer["error"]["code"]) == ("failed", "cancelled")
    after = [fleet.create(5) for _ in range(2)]
    assert [row["status"] for row in fleet.finish(*after)] == ["completed"] * 2
    stopped, late = [], []
    for job, worker in zip(running, workers, strict=True):
        (run,) = fleet.runs(job)
        # The row keeps the last step that was noted before; the next one noticed.
        assert worker.says(f"{job} attempt 1 stopped at step {fleet.row(job)['step'] + 1}")
        stopped.append(run.ended - asked[job])
        late += fleet.files(job)
    assert fleet.runs(waiting) == [] and late == []
    return f"both running jobs stopped at the next step, within {max(stopped):.2f} s"


def begun(fleet: Fleet, video_id: str) -> Process:
    """Wait until a job has begun; give its worker."""
    fleet.until(lambda: fleet.row(video_id)["status"] == IN_PROGRESS)
    return fleet.owner(video_id)


@contextmanager
def limited(
    workers: Iterable[Process], kind: int, limit: Callable[[Process], int]
) -> Iterator[None]:
    """Allow these processes no more of a resource than that."""
    unlimited = resource.RLIM_INFINITY
    for worker in workers:
        resource.prlimit(worker.popen.pid, kind, (limit(worker), unlimited))
    try:
        yield
    finally:
        for worker in workers:
            resource.prlimit(worker.popen.pid, kind, (unlimited, unlimited))


def address_space(worker: Process) -> int:
    pages = int(Path(f"/proc/{worker.popen.pid}/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def out_of_memory(fleet: Fleet) -> str:
    """No more address space than the worker has fails its large job, and the next ones run."""
    fleet.pair()
    fleet.finish(*(fleet.create(5) for _ in range(4)))  # libraries are loaded by the first jobs
    large = fleet.create(100, LARGE)  # steps enough to take its room before its file is begun
    worker = begun(fleet, large)
    # The tokenizer is behind it: out of memory, Rust aborts, which is a worker killed.
    fleet.until(lambda: fleet.row(large)["progress"] >= 2)
    assert fleet.row(large)["step"] < 90, "too late: its file may have what it needs"
    with limited([worker], resource.RLIMIT_AS, address_space):
        (failed,) = fleet.finish(large)
    assert failed["error"] and failed["error"]["code"] == "out_of_memory"
    done = fleet.finish(*(fleet.create(5) for _ in range(3)))
    assert [(row["status"], row["attempt"]) for row in done] == [("completed", 1)] * 3
    assert fleet.files(large) == [] and worker.popen.poll() is None
    return f"failed with {failed['error']['code']}; the next 3 of 3 completed, no worker died"


@contextmanager
def full_disk(fleet: Fleet, worker: Process) -> Iterator[None]:
    """No file of a worker may grow beyond what fits all but the large video."""
    if not fleet.database:  # its log must fit, too
        with sqlite3.connect(fleet.data / "kinetograph.db", timeout=60) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with limited([worker], resource.RLIMIT_FSIZE, lambda _: MEGABYTE):
        yield


def disk_full(fleet: Fleet) -> str:
    """A video for which there is no room fails, and the next one, for which there is, does not."""
    fleet.pair()
    large = fleet.create(1, LARGE)
    with full_disk(fleet, begun(fleet, large)):
        (failed,) = fleet.finish(large)
        assert failed["error"] and failed["error"]["code"] == "storage_full"
        (done,) = fleet.finish(fleet.create(5))
    assert done["status"] == "completed" and fleet.files(large) == []
    assert fleet.http.get(f"/v1/videos/{large}/content").status_code == 404
    return f"failed with {failed['error']['code']}, nothing left behind; a small video completed"


Away = Callable[[Fleet], AbstractContextManager[None]]


def away_from(postgres: Postgres) -> Away:
    """How the database of a fleet is taken away, and given back at the end."""

    @contextmanager
    def away(fleet: Fleet) -> Iterator[None]:
        if fleet.database:
            postgres.stop()
        else:
            connection = sqlite3.connect(fleet.data / "kinetograph.db", timeout=60)
            connection.isolation_level = None
            connection.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            if fleet.database:
                postgres.start()
            else:
                connection.close()

    return away


@contextmanager
def away_after_the_row(fleet: Fleet, away: Away) -> Iterator[str]:
    """Take the database away between a job's row and the queue; give the job's id."""
    job = stopped_after_the_row(fleet)
    assert fleet.api
    with away(fleet):
        fleet.api.send_signal(signal.SIGCONT)
        yield job


def database_away(away: Away) -> Scenario:
    def database_gone(fleet: Fleet) -> str:
        """For 20 s in the middle of a job, and from another before that is in the queue."""
        fleet.pair()
        running, waiting = fleet.create(4 * LONG), [fleet.create(5) for _ in range(3)]
        fleet.under_way(running)
        key = {"Idempotency-Key": f"away-{time.time()}"}
        body = {"prompt": "a red ball is dropped and bounces", "num_inference_steps": 5}
        refusals: list[httpx.Response] = []
        with away_after_the_row(fleet, away) as cut_off:
            gone_at = time.monotonic()
            while time.monotonic() < gone_at + 12:  # none may wait until the database is back
                refusals.append(fleet.http.post("/v1/videos", json=body, headers=key))
                time.sleep(1)
            time.sleep(max(0, gone_at + 20 - time.monotonic()))
        back = time.monotonic()
        assert {answer.status_code for answer in refusals} == {503}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refusals)
        assert fleet.http.post("/v1/videos", json=body, headers=key).status_code == 200
        again = fleet.http.post("/v1/videos", json=body, headers=key).json()["id"]
        rows = fleet.finish(running, *waiting, cut_off, again)
        assert [(row["status"], row["attempt"]) for row in rows] == [("completed", 1)] * 6
        spent = time.monotonic() - back
        return f"{len(refusals)} x 503; 6 of 6 jobs completed once, {spent:.1f} s after its return"

    return database_gone


def asked_to_stop(fleet: Fleet) -> str:
    """With no grace a worker hands its job back, uncounted; with enough it finishes it."""
    hasty = fleet.start_worker("hasty", "--grace", "0")
    patient = fleet.start_worker("patient", "--grace", "120")
    for worker in fleet.workers[:-2]:
        if worker.popen.poll() is None:
            worker.signal(signal.SIGTERM)
            assert worker.popen.wait(60) == 0
    fleet.ready(hasty, patient)
    jobs = [fleet.create(LONG) for _ in range(2)]
    handed_back = job_at(fleet, hasty)
    job_at(fleet, patient)
    asked = time.time()
    hasty.signal(signal.SIGTERM)
    assert hasty.popen.wait(60) == 0
    left = time.time() - asked
    again = run_again(fleet, handed_back, asked)
    patient.signal(signal.SIGTERM)
    assert patient.popen.wait(120) == 0
    rows = {row["id"]: row for row in fleet.finish(*jobs)}
    assert {row["status"] for row in rows.values()} == {"completed"}
    assert (rows[handed_back]["attempt"], rows[handed_back]["attempts_left"]) == (2, ATTEMPTS - 1)
    return f"handed back within {left:.1f} s, run again {again:.1f} s on; the other finished first"


@pytest.mark.parametrize(
    "scenario",
    [
        *(worker_killed, worker_frozen, api_killed, same_key, cancelled, out_of_memory),
        *(disk_full, database_away, asked_to_stop),
    ],
    ids=lambda scenario: scenario.__name__,
)
def test_nothing_is_lost(fleets: list[Fleet], postgres: Postgres, scenario: Scenario) -> None:
    chosen = database_away(away_from(postgres)) if scenario is database_away else scenario
    on_each(fleets, chosen)
