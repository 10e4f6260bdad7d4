"""An API and workers as an operator starts them, each a process of its own, and what they tell."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from serving.settings import Settings
from serving.store import Store
from serving.tables import Row
from tests.serving.conftest import EXAMPLES, ROOT
from tests.serving.postgres import Postgres

PATIENCE = 600.0
"""Seconds after which what is waited for counts as not to come; a slow machine takes most."""

_EVENT = re.compile(r"(\S+ \S+) kinetograph.worker (video_\w+) attempt (\d+) (\w+)")


@dataclass
class Process:
    """A worker that was started, its log, and when it was killed, if it was."""

    slot: str
    popen: subprocess.Popen[bytes]
    log: Path
    killed_at: float | None = None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if number == signal.SIGKILL:
            self.killed_at = time.time()
        self.popen.send_signal(number)

    def says(self, text: str) -> bool:
        """Whether it has logged that."""
        return text in self.log.read_text()


@dataclass(frozen=True)
class Run:
    """One attempt at a job, by a worker's log: when it began and how it ended, if it did."""

    video_id: str
    attempt: int
    slot: str
    began: float
    ended: float
    how: str


@dataclass
class Fleet:
    """All processes of one service. `without`: the safeguards that are switched off."""

    name: str
    checkpoint: Path
    folder: Path
    database: str | None = None
    lease: float = 15
    without: str = ""
    workers: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "data"
        self.store = Store(Settings(data=self.data, database=self.database).database_url)
        self.api: subprocess.Popen[str] | None = None

    # Processes.

    def _command(self, name: str, *options: str) -> list[str]:
        shared = ["--data", str(self.data), "--lease", str(self.lease)]
        shared += ["--database", self.database] if self.database else []
        return [sys.executable, "-m", "serving.cli", name, *shared, *options]

    @property
    def _environment(self) -> dict[str, str]:
        switched = {"KINETOGRAPH_WITHOUT": self.without, "OMP_NUM_THREADS": "1"}
        return os.environ | switched

    def start_api(self, name: str = "api", *options: str) -> None:
        """Start the API (`serve`: the whole service), and wait until it is ready."""
        if self.api is not None:
            self.http.close()
        command = self._command(name, "--port", "0", *options)
        log = self.folder / "api.log"
        with log.open("a") as stderr:
            self.api = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.api.stdout
        line = self.api.stdout.readline()
        assert "ready at http" in line, log.read_text()
        url = line.split(" at ")[1].split()[0].rstrip(";")
        self.api.stdout.close()
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=60)

    def start_worker(self, slot: str, *options: str) -> Process:
        """Start a worker; it takes jobs as soon as `ready` says so."""
        log = self.folder / f"{slot}.{len(self.workers)}.log"
        command = self._command("worker", "--slot", slot, "--model", str(self.checkpoint), *options)
        with log.open("w") as stderr:
            popen = subprocess.Popen(command, cwd=ROOT, env=self._environment, stderr=stderr)
        self.workers.append(Process(slot, popen, log))
        return self.workers[-1]

    def ready(self, *workers: Process) -> None:
        """Wait until these workers take jobs."""
        for worker in workers:
            self.until(lambda w=worker: w.says("takes jobs") or w.popen.poll() is not None)  # type: ignore[misc]
            assert worker.popen.poll() is None, worker.log.read_text()

    def pair(self) -> tuple[Process, Process]:
        """Two workers that take jobs, those that there are or new ones."""
        alive = {w.slot: w for w in self.workers if w.popen.poll() is None}
        one, two = (alive.get(slot) or self.start_worker(slot) for slot in ("a", "b"))
        self.ready(one, two)
        return one, two

    def freeze(self, worker: Process) -> None:
        """Stop a worker; on SQLite at a moment at which others can write.

        Stopped within a write to SQLite it keeps everybody waiting, its heirs, too, for as long as
        nobody kills it, which is the proof of `kinetograph serve`. PostgreSQL sees to it itself.
        """
        stop(worker.popen)
        while not self.writable():
            worker.signal(signal.SIGCONT)
            time.sleep(0.05)
            stop(worker.popen)

    def writable(self) -> bool:
        """Whether SQLite's one lock can be had within a second; PostgreSQL has none of the kind."""
        if self.database:
            return True
        with closing(sqlite3.connect(self.data / "kinetograph.db", timeout=1)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
        return True

    def close(self) -> None:
        """Kill everything that still runs."""
        for worker in self.workers:
            worker.popen.kill()
            worker.popen.wait()
        if self.api is not None:
            self.api.kill()
            self.api.wait()
            self.http.close()
        self.store.close()

    # Jobs.

    def create(self, steps: int = 20, size: str = "64x64", **headers: str) -> str:
        """Queue a job; give its id."""
        body = {"prompt": EXAMPLES[0], "size": size, "num_inference_steps": steps}
        response = self.http.post("/v1/videos", json=body, headers=headers)
        assert response.status_code == 200, response.text
        return str(response.json()["id"])

    def row(self, video_id: str) -> Row:
        """A job as the database has it."""
        row = self.store.get(video_id)
        assert row is not None
        return row

    def under_way(self, video_id: str, step: int = 5) -> Process:
        """Wait until a job is in the middle; give its worker."""
        self.until(lambda: self.row(video_id)["step"] >= step)
        return self.owner(video_id)

    def owner(self, video_id: str) -> Process:
        """The latest process in the slot that has the job."""
        slot = self.row(video_id)["owner"]
        return [worker for worker in self.workers if worker.slot == slot][-1]

    def finish(self, *video_ids: str) -> list[Row]:
        """Wait until jobs are over; give their rows."""
        for video_id in video_ids:
            self.until(lambda v=video_id: self.row(v)["status"] in ("completed", "failed"))  # type: ignore[misc]
        return [self.row(video_id) for video_id in video_ids]

    def files(self, video_id: str) -> list[str]:
        """Names of a video's files."""
        return sorted(path.name for path in (self.data / "videos" / video_id).glob("*"))

    def runs(self, video_id: str) -> list[Run]:
        """Every attempt at a job that the workers' logs tell of, by when it began."""
        found: list[Run] = []
        for worker in self.workers:
            began: dict[int, float] = {}
            for time_text, name, attempt, what in _EVENT.findall(worker.log.read_text()):
                at = datetime.strptime(time_text, "%Y-%m-%d %H:%M:%S,%f").timestamp()
                if name == video_id and what == "begins":
                    began[int(attempt)] = at
                elif name == video_id:
                    key = int(attempt)
                    found.append(Run(name, key, worker.slot, began.pop(key), at, what))
            end = worker.killed_at or time.time()
            found += [Run(video_id, n, worker.slot, at, end, "killed") for n, at in began.items()]
        return sorted(found, key=lambda run: run.began)

    @staticmethod
    def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> float:
        """Wait for a condition; give the seconds that it took."""
        begun = time.monotonic()
        while not condition():
            assert time.monotonic() - begun < seconds, "it did not come"
            time.sleep(0.05)
        return time.monotonic() - begun


def stop(process: subprocess.Popen[Any]) -> None:
    """Stop a child, and wait until all its threads stand still: the signal alone is a request."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)


Scenario = Callable[[Fleet], str]


@contextmanager
def both(
    name: str, model: Path, folder: Path, postgres: Postgres, lease: float = 15, without: str = ""
) -> Iterator[list[Fleet]]:
    """A fleet on each database, without processes yet."""
    fleets = [
        Fleet(kind, model, folder / f"{name}-{kind}", url, lease, without)
        for kind, url in (("sqlite", None), ("postgresql", postgres.database(name)))
    ]
    try:
        yield fleets
    finally:
        for fleet in fleets:
            fleet.close()


def on_each(fleets: list[Fleet], scenario: Scenario) -> None:
    """Run a scenario on all fleets at once and print what each has to tell."""
    with ThreadPoolExecutor() as pool:
        for fleet, told in zip(fleets, pool.map(scenario, fleets), strict=True):
            print(f"  {scenario.__name__}, {fleet.name}: {told}")
