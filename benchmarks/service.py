"""How the service bears load: the price of a POST, a burst of jobs, and memory.

    python -m benchmarks.service [--json] [-o docs/results/service.json]

Starts services of its own, in temporary folders, with a tiny model of random weights. Every row has
case, n, p50_ms, p95_ms, lost, rss_mb:

enqueue      a bare DBOS enqueue into the database of `create`, one before each POST
create       a POST beside a busy worker, with 10,000 jobs in the tables; rss_mb is the API's
burst        the POSTs of 50 clients at once; lost counts those whose job is missing from the list,
             or listed twice, or out of order, or never completed
worker@N     the worker after N of those jobs, and after 1,000 more; the times are its own a job
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any
from uuid import uuid4

import httpx
import psutil
import sqlalchemy as sa
from dbos import DBOSClient

from benchmarks.checkpoint import EXAMPLES, write_tiny
from benchmarks.environment import environment, write_results
from serving.store import Store
from serving.tables import videos

QUICK = {"prompt": EXAMPLES[0], "size": "64x64", "num_frames": 9, "num_inference_steps": 2}
LONG = QUICK | {"num_inference_steps": 1000, "priority": "high"}
RETRIES = 2
"""What the openai client does after a 429, a 5xx or a lost connection."""


@dataclass(frozen=True)
class Case:
    """One row of the report; None where a column says nothing."""

    case: str
    n: int
    p50_ms: float | None = None
    p95_ms: float | None = None
    lost: int | None = None
    rss_mb: float | None = None

    @classmethod
    def timed(cls, case: str, seconds: Sequence[float], **columns: Any) -> "Case":
        """A row of `seconds`, one a request or job."""
        cuts = quantiles(seconds, n=20, method="inclusive")
        p50, p95 = (round(1000 * cut, 1) for cut in (cuts[9], cuts[18]))
        return cls(case, len(seconds), p50, p95, **columns)


@dataclass(frozen=True)
class Server:
    """A running service and its data folder."""

    process: psutil.Process
    url: str
    data: Path

    @property
    def store(self) -> Store:
        """The service's own tables."""
        return Store(f"sqlite:///{self.data.resolve() / 'kinetograph.db'}")

    def client(self, user: str) -> httpx.Client:
        """A connection of somebody with a token."""
        headers = {"authorization": f"Bearer {user}"}
        return httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=120)

    def worker(self) -> psutil.Process:
        """The one worker process: of the API's descendants the one that uses most memory."""
        return max(self.process.children(recursive=True), key=lambda p: p.memory_info().rss)


@contextmanager
def serving(model: Path) -> Iterator[Server]:
    """A service with one worker on a free port, until the context ends."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "serving.cli", "serve", "--port", "0"]
        command += ["--model", str(model), "--data", folder]
        log = Path(folder) / "log"
        with (
            log.open("w") as stderr,
            subprocess.Popen(
                command,
                env={"OMP_NUM_THREADS": "1", **os.environ},  # the model is too tiny to share
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            ) as process,
        ):
            try:
                assert process.stdout
                words = process.stdout.readline().split()
                url = next((word for word in words if word.startswith("http")), None)
                if url is None:
                    raise SystemExit(f"the service did not start: {log.read_text()}")
                yield Server(psutil.Process(process.pid), url, Path(folder))
            finally:
                process.send_signal(signal.SIGTERM)


def post(client: httpx.Client, fields: dict[str, Any]) -> str | None:
    """Ask for a video, again if need be as clients do; its id, or None where all was in vain."""
    headers = {"idempotency-key": uuid4().hex}
    for attempt in range(RETRIES + 1):
        try:
            response = client.post("/v1/videos", json=fields, headers=headers)
        except httpx.TransportError:
            continue
        if response.status_code == 200:
            return str(response.json()["id"])
        time.sleep(0.5 * 2**attempt)
    return None


def measure_create(model: Path, count: int, rows: int) -> list[Case]:
    """A POST and a bare enqueue in turn, with `rows` finished jobs about and a worker busy."""
    with serving(model) as server, server.client("ann") as client:
        multiply(server, finished(server, client), rows)
        busy = [post(client, LONG)]
        queue = DBOSClient(system_database_url=f"sqlite:///{server.data / 'kinetograph.db'}")
        bare, whole = [], []
        for _ in range(count):
            begun = time.perf_counter()
            queue.enqueue({"workflow_name": "nothing", "queue_name": "nobody"}, "argument")
            between = time.perf_counter()
            if post(client, QUICK) is None:
                raise SystemExit("a POST was refused")
            whole.append(time.perf_counter() - between)
            bare.append(between - begun)
            if client.get(f"/v1/videos/{busy[-1]}").json()["status"] == "completed":
                busy.append(post(client, LONG))
        queue.destroy()
        rss = megabytes(server.process)
    return [Case.timed("enqueue", bare), Case.timed("create", whole, lost=0, rss_mb=rss)]


def finished(server: Server, client: httpx.Client) -> str:
    """The id of a job that is over."""
    video_id = post(client, QUICK)
    while client.get(f"/v1/videos/{video_id}").json()["status"] != "completed":
        time.sleep(0.1)
    return str(video_id)


def multiply(server: Server, video_id: str, count: int) -> None:
    """Have `count` finished jobs like that one, in our table and in the queue's."""
    engine = server.store.engine
    workflows = sa.Table("workflow_status", sa.MetaData(), autoload_with=engine)
    with engine.begin() as connection:
        for table, key in ((videos, videos.c.id), (workflows, workflows.c.workflow_uuid)):
            query = sa.select(table).where(key == video_id)
            row = dict(connection.execute(query).mappings().one()) | {"idempotency_key": None}
            row = {name: value for name, value in row.items() if name in table.c}
            copies = [row | {key.name: f"{video_id}_{i}"} for i in range(count)]
            connection.execute(sa.insert(table), copies)
    engine.dispose()


def measure_burst(model: Path, count: int, clients: int, warm: int, more: int) -> list[Case]:
    """`count` jobs from many clients at once, then the worker's memory as it does them all.

    It is read once `warm` jobs or more are over, and again after `more` further ones.
    """
    with serving(model) as server, server.client("ann") as reader:
        spent: list[float] = []

        def flood(number: int) -> list[str | None]:
            made = []
            with server.client(f"client-{number}") as client:
                for _ in range(count // clients):
                    begun = time.perf_counter()
                    made.append(post(client, QUICK))
                    spent.append(time.perf_counter() - begun)
            return made

        with ThreadPoolExecutor(clients) as pool:
            made = [video_id for ids in pool.map(flood, range(clients)) for video_id in ids]
        lost = misplaced(reader, made)
        api = megabytes(server.process)
        early = follow(server, warm)
        late = follow(server, early.n + more)
        wait_for(server, len(made))
        lost += sum(1 for video_id in made if video_id and not completed(reader, video_id))
    return [Case.timed("burst", spent, lost=lost, rss_mb=api), early, late]


def misplaced(client: httpx.Client, made: Sequence[str | None]) -> int:
    """How many of the jobs the list lacks or repeats, or tells in another order backwards."""
    forwards, backwards = (listed(client, order) for order in ("asc", "desc"))
    wrong = sum(forwards.count(video_id) != 1 for video_id in made if video_id)
    wrong += sum(a != b for a, b in zip(forwards, reversed(backwards), strict=False))
    return wrong + abs(len(forwards) - len(made)) + made.count(None)


def listed(client: httpx.Client, order: str) -> list[str]:
    """The ids of all the jobs, a page of a hundred at a time."""
    ids: list[str] = []
    query: dict[str, Any] = {"limit": 100, "order": order}
    while True:
        page = client.get("/v1/videos", params=query).raise_for_status().json()
        ids += [video["id"] for video in page["data"]]
        if not page["has_more"]:
            return ids
        query["after"] = page["last_id"]


def follow(server: Server, mark: int) -> Case:
    """The worker's memory once it has completed `mark` jobs or more, and how long those took."""
    seconds = wait_for(server, mark)
    return Case.timed(f"worker@{len(seconds)}", seconds, rss_mb=megabytes(server.worker()))


def wait_for(server: Server, count: int) -> list[float]:
    """Wait until `count` jobs are over; the seconds that each completed one took."""
    store = server.store
    while True:
        with store.engine.connect() as connection:
            ended = videos.c.status.in_(("completed", "failed"))
            over = connection.scalar(sa.select(sa.func.count()).where(ended)) or 0
            if over >= count:
                times = connection.scalars(sa.select(videos.c.worker_seconds))
                store.close()
                return [seconds for seconds in times if seconds is not None]
        time.sleep(0.2)


def completed(client: httpx.Client, video_id: str) -> bool:
    """Whether that job came to its good end."""
    return bool(client.get(f"/v1/videos/{video_id}").json()["status"] == "completed")


def megabytes(process: psutil.Process) -> float:
    """Resident memory, in units of 10^6 bytes."""
    return round(process.memory_info().rss / 1e6, 1)


def measure(quick: bool) -> list[Case]:
    """Every case, or with `quick` the same on a small scale."""
    with tempfile.TemporaryDirectory() as folder:
        write_tiny(Path(folder))
        if quick:
            return measure_create(Path(folder), 40, 1000) + measure_burst(
                Path(folder), 60, 10, 10, 30
            )
        return measure_create(Path(folder), 200, 10_000) + measure_burst(
            Path(folder), 2000, 50, 100, 1000
        )


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    parser.add_argument("--quick", action="store_true", help="the same on a small scale")
    parser.add_argument("-o", "--output", type=Path, help="a JSON file of environment and rows")
    options = parser.parse_args()
    told = environment("dbos", "fastapi", "sqlalchemy")
    rows = [asdict(row) for row in measure(options.quick)]
    if options.output:
        write_results(options.output, told, rows)
    if options.json:
        return print(json.dumps(rows))
    print(*rows[0], sep="\t")
    for row in rows:
        print(*row.values(), sep="\t")


if __name__ == "__main__":
    main()
