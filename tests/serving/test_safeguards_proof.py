"""What comes true without each safeguard, and how one service looks after its own worker."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from serving.database import PATIENCE_SECONDS
from serving.tables import ATTEMPTS, FAILED, IN_PROGRESS, QUEUED
from tests.serving.conftest import EXAMPLES, workers_of
from tests.serving.fleet import Fleet, Scenario, both, on_each
from tests.serving.postgres import Postgres
from tests.serving.test_durability_proof import (
    LARGE,
    LONG,
    Away,
    away_after_the_row,
    away_from,
    full_disk,
    job_at,
    stranded_by_the_api,
    writers_stalled,
)

pytestmark = pytest.mark.proof

LEASE = 4.0
"""Seconds; with its safeguards a job would be run again about as long after its worker's death."""
IN_VAIN = 20.0
"""Seconds that are waited for what will not come."""


def without_fence(fleet: Fleet) -> str:
    """The frozen worker that wakes publishes a second time, and removes the other's files."""
    pair = fleet.pair()
    job = fleet.create(4 * LONG)
    frozen = fleet.under_way(job)
    (other,) = (worker for worker in pair if worker is not frozen)
    fleet.freeze(frozen)
    try:
        fleet.until(lambda: fleet.row(job)["owner"] == other.slot)
        (row,) = fleet.finish(job)
        assert fleet.http.get(f"/v1/videos/{job}/content").status_code == 200
    finally:
        frozen.signal(signal.SIGCONT)
    fleet.until(lambda: [run.how for run in fleet.runs(job)] == ["completed"] * 2)
    assert row["attempt"] == 2 and fleet.files(job) == ["1.jpg", "1.mp4", "1.webp"]
    assert fleet.http.get(f"/v1/videos/{job}/content").status_code == 404
    return "completed twice, and the video that was published is gone"


def without_fence_full_disk(fleet: Fleet) -> str:
    """A late attempt that finds no room has the job fail that another has completed."""
    pair = fleet.pair()
    job = fleet.create(4 * LONG, LARGE)
    frozen = fleet.under_way(job)
    (other,) = (worker for worker in pair if worker is not frozen)
    fleet.freeze(frozen)
    fleet.until(lambda: fleet.row(job)["owner"] == other.slot)
    (row,) = fleet.finish(job)
    assert (row["status"], row["attempt"]) == ("completed", 2)
    with full_disk(fleet, frozen):
        frozen.signal(signal.SIGCONT)
        fleet.until(lambda: fleet.row(job)["status"] == FAILED)
    late = fleet.row(job)["error"]
    assert late and late["code"] == "storage_full"
    assert fleet.files(job) == ["2.jpg", "2.mp4", "2.webp"]
    assert fleet.http.get(f"/v1/videos/{job}/content").status_code != 200
    return "failed with storage_full, though its video is whole"


def without_fence_no_cancel(fleet: Fleet) -> str:
    """A job that was cancelled while it ran goes on, and its end is written over that."""
    fleet.pair()
    job = fleet.create(LONG)
    fleet.under_way(job)
    assert fleet.http.post(f"/v1/videos/{job}/cancel").json()["error"]["code"] == "cancelled"
    fleet.until(lambda: fleet.row(job)["status"] == "completed")
    assert [run.how for run in fleet.runs(job)] == ["completed"]
    return "cancelled, and completed all the same"


def without_key(fleet: Fleet) -> str:
    """Retries that name no Idempotency-Key are as many jobs."""
    with ThreadPoolExecutor(10) as pool:
        jobs = set(pool.map(lambda _: fleet.create(7), range(10)))
    for job in jobs:
        fleet.http.post(f"/v1/videos/{job}/cancel")
    assert len(jobs) == 10
    return "10 requests, 10 jobs"


def without_sweeper(fleet: Fleet) -> str:
    """The job of an API that died between row and queue is never run."""
    fleet.pair()
    job = stranded_by_the_api(fleet)
    time.sleep(IN_VAIN)
    assert fleet.row(job)["status"] == QUEUED and fleet.runs(job) == []
    return f"still queued after {IN_VAIN:.0f} s"


def without_sweeper_cut_off(away: Away) -> Scenario:
    def without_sweeper_cut_off(fleet: Fleet) -> str:
        """The job whose database went away between row and queue is never run."""
        fleet.pair()
        with away_after_the_row(fleet, away) as job:
            time.sleep(2 * PATIENCE_SECONDS)  # the API gives up by then
        time.sleep(IN_VAIN)
        assert fleet.row(job)["status"] == QUEUED and fleet.runs(job) == []
        return f"still queued {IN_VAIN:.0f} s after the database's return"

    return without_sweeper_cut_off


def without_reaper(fleet: Fleet) -> str:
    """The job of a worker that died is never run again."""
    fleet.start_api()
    gone, other = fleet.pair()
    jobs = [fleet.create(LONG) for _ in range(2)]
    hurt = job_at(fleet, gone)
    gone.signal(signal.SIGKILL)
    (spared,) = set(jobs) - {hurt}
    assert fleet.finish(spared)[0]["status"] == "completed"
    time.sleep(IN_VAIN)
    assert (fleet.row(hurt)["status"], fleet.row(hurt)["attempt"]) == (IN_PROGRESS, 1)
    assert other.popen.poll() is None
    return f"still said to be in progress after {IN_VAIN:.0f} s"


def without_reaper_no_handing_back(fleet: Fleet) -> str:
    """The job that a worker hands back when it is asked to stop is queued, and never run again."""
    hasty = fleet.start_worker("hasty", "--grace", "0")
    fleet.ready(hasty)
    jobs = [fleet.create(LONG) for _ in range(2)]
    handed_back = job_at(fleet, hasty)
    hasty.signal(signal.SIGTERM)
    assert hasty.popen.wait(60) == 0
    (spared,) = set(jobs) - {handed_back}
    assert fleet.finish(spared)[0]["status"] == "completed"
    time.sleep(IN_VAIN)
    row = fleet.row(handed_back)
    assert (row["status"], row["attempt"], row["attempts_left"]) == (QUEUED, 1, ATTEMPTS)
    return f"handed back, and still queued after {IN_VAIN:.0f} s"


@contextmanager
def off(safeguards: str, model: Path, tmp_path: Path, postgres: Postgres) -> Iterator[list[Fleet]]:
    name = f"without-{safeguards.replace(',', '-')}"
    with both(name, model, tmp_path, postgres, LEASE, safeguards) as fleets:
        yield fleets


def test_without_fence_and_sweeper_jobs_are_harmed(
    proof_model: Path, tmp_path: Path, postgres: Postgres
) -> None:
    with off("fence,sweeper", proof_model, tmp_path, postgres) as fleets:
        for fleet in fleets:
            fleet.start_api()
        on_each(fleets, without_fence)
        on_each(fleets, without_fence_no_cancel)
        on_each(fleets, without_key)
        on_each(fleets, without_fence_full_disk)
        on_each(fleets, without_sweeper)
        for fleet in fleets:
            fleet.start_api()
        on_each(fleets, without_sweeper_cut_off(away_from(postgres)))


def test_without_reaper_a_job_dies_with_its_worker(
    proof_model: Path, tmp_path: Path, postgres: Postgres
) -> None:
    with off("reaper", proof_model, tmp_path, postgres) as fleets:
        on_each(fleets, without_reaper)
        on_each(fleets, without_reaper_no_handing_back)


def worker_of(fleet: Fleet) -> int:
    """Process id of the only worker of `kinetograph serve`, once there is one."""
    assert fleet.api
    found: list[int] = []

    def look() -> bool:
        with suppress(FileNotFoundError):  # one that is just gone
            found[:] = workers_of(fleet.api.pid)  # type: ignore[union-attr]
        return bool(found)

    fleet.until(look)
    return found[0]


def killed_thrice(fleet: Fleet) -> str:
    """As by the system when memory is short: that job fails in the end, and the next one runs."""
    options = ["--model", str(fleet.checkpoint), "--step-timeout", "15"]
    fleet.start_api("serve", *options)
    job, behind = fleet.create(6 * LONG), fleet.create(5)
    for attempt in range(1, ATTEMPTS + 1):
        fleet.until(lambda n=attempt: fleet.row(job)["attempt"] == n)  # type: ignore[misc]
        fleet.until(lambda: fleet.row(job)["step"] >= 5)
        os.kill(worker_of(fleet), signal.SIGKILL)
    failed, done = fleet.finish(job, behind)
    assert (failed["error"]["code"], failed["attempt"]) == ("worker_crashed", ATTEMPTS)
    assert (done["status"], done["attempt"], fleet.files(job)) == ("completed", 1, [])
    return f"failed with {failed['error']['code']} after {ATTEMPTS} attempts; the next completed"


def killed_in_vain(fleet: Fleet) -> str:
    """Without a reaper the job whose worker was killed for its memory never fails either."""
    fleet.start_api("serve", "--model", str(fleet.checkpoint))
    job, behind = fleet.create(6 * LONG), fleet.create(5)
    fleet.until(lambda: fleet.row(job)["step"] >= 5)
    os.kill(worker_of(fleet), signal.SIGKILL)
    assert fleet.finish(behind)[0]["status"] == "completed"
    time.sleep(IN_VAIN)
    row = fleet.row(job)
    assert (row["status"], row["attempt"], row["error"]) == (IN_PROGRESS, 1, None)
    return f"still said to be in progress {IN_VAIN:.0f} s after a job behind it was completed"


def step_hung(fleet: Fleet) -> str:
    """A read that never returns, as of a file server that is gone, is found by the watchdog."""
    source, blocker = fleet.create(5), fleet.create(4 * LONG)
    fleet.finish(source)
    mp4 = fleet.http.get(f"/v1/videos/{source}/content").content
    fields = {"prompt": EXAMPLES[0], "size": "64x64", "num_inference_steps": "5"}
    answer = fleet.http.post("/v1/videos/edits", data=fields, files={"video": mp4})
    assert answer.status_code == 200, answer.text
    job = answer.json()["id"]
    (name,) = fleet.row(job)["inputs"].values()
    file = fleet.data / "videos" / job / "inputs" / name
    file.rename(file.with_suffix(".whole"))
    os.mkfifo(file)
    worker = worker_of(fleet)
    fleet.http.post(f"/v1/videos/{blocker}/cancel")
    fleet.until(lambda: fleet.row(job)["status"] == IN_PROGRESS)
    begun = time.monotonic()
    fleet.until(lambda: not Path(f"/proc/{worker}").exists())
    found = time.monotonic() - begun
    file.with_suffix(".whole").rename(file)
    (row,) = fleet.finish(job)
    assert (row["status"], row["attempt"]) == ("completed", 2)
    assert "Timeout (0:00:15)" in (fleet.folder / "api.log").read_text()
    return f"found after {found:.1f} s, restarted and completed at the second attempt"


def stood_still(fleet: Fleet) -> str:
    """Stopped in the middle of a job, on SQLite within a write, so that nobody else can write."""
    job = fleet.create(6 * LONG)
    fleet.until(lambda: fleet.row(job)["step"] >= 5)
    worker, body = worker_of(fleet), {"prompt": EXAMPLES[0], "num_inference_steps": 5}
    stall = writers_stalled(fleet, "UPDATE OF step ON videos")
    with nullcontext() if fleet.database else stall:
        fleet.until(lambda: bool(fleet.database) or not fleet.writable())
        os.kill(worker, signal.SIGSTOP)
        begun = time.monotonic()
        meanwhile = fleet.http.post("/v1/videos", json=body).status_code
        fleet.until(lambda: not Path(f"/proc/{worker}").exists())
        killed = time.monotonic() - begun
    assert meanwhile == (200 if fleet.database else 503)
    assert fleet.http.post("/v1/videos", json=body).status_code == 200
    (row,) = fleet.finish(job)
    assert (row["status"], row["attempt"]) == ("completed", 2)
    return f"killed after {killed:.1f} s, meanwhile {meanwhile}; completed at the second attempt"


def test_without_reaper_a_service_gives_no_verdict(
    proof_model: Path, tmp_path: Path, postgres: Postgres
) -> None:
    with both("unreaped", proof_model, tmp_path, postgres, LEASE, "reaper") as fleets:
        on_each(fleets, killed_in_vain)


def test_a_service_restarts_a_worker_that_dies_or_hangs(
    proof_model: Path, tmp_path: Path, postgres: Postgres
) -> None:
    with both("serve", proof_model, tmp_path, postgres) as fleets:
        on_each(fleets, killed_thrice)
        on_each(fleets, step_hung)
        on_each(fleets, stood_still)
