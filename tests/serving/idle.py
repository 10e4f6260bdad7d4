"""A service in this process whose jobs nobody runs: for what happens before a job is run."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import sqlalchemy as sa
import uvicorn

from serving.app import create_app
from serving.files import Files
from serving.jobs import JobQueue
from serving.service import Service
from serving.store import Store
from serving.tables import models, workers

TINY: dict[str, Any] = {
    "name": "tiny",
    "capabilities": ["text", "remix", "first_frame"],
    "sizes": ["64x64"],
    "size_multiple": None,
    "num_frames": [17, 9],
    "fps": 8,
    "num_inference_steps": 2,
    "guidance_scale": 2.5,
    "guidance_scale_2": None,
    "flow_shift": 2.0,
    "max_sequence_length": 512,
    "words": None,
    "grammar": None,
    "examples": None,
    "parameters": 1000,
}
"""What a model that can do most things tells of itself."""


@cache
def blank() -> bytes:
    """A database with the tables of rows and queue, which take longer to make than to copy."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/blank.db"
        JobQueue.create_tables(url)
        store = Store(url)
        store.create_tables()
        store.close()
        return (Path(folder) / "blank.db").read_bytes()


@contextmanager
def idle_service(
    folder: Path, *described: dict[str, Any], most_queued: int = 1000
) -> Iterator[Service]:
    """A service with the models described, said to be alive for a day to come."""
    database = folder / "kinetograph.db"
    if not database.exists():
        database.write_bytes(blank())
    store = Store(f"sqlite:///{database}")
    publish(store, *(described or (TINY,)))
    jobs = JobQueue(store.engine)
    yield Service(store, jobs, Files(folder / "videos"), most_queued=most_queued)
    jobs.close()
    store.close()


def publish(store: Store, *described: dict[str, Any]) -> None:
    """Write what a worker would of itself and its models."""
    tomorrow = time.time() + 86_400
    alive = {"heartbeat_at": tomorrow, "started_at": time.time(), "state": "ready"}
    with store.transaction() as connection:
        worker = {"executor": "w", "incarnation": "w.1", "device": "cpu", **alive}
        connection.execute(sa.insert(workers).values(worker))
        for position, description in enumerate(described):
            row = {"executor": "w", "name": description["name"], "position": position}
            row |= {"description": description}
            connection.execute(sa.insert(models).values(row))


def finish(service: Service, video_id: str, video: bytes) -> None:
    """Have a job completed, with `video` as its file."""
    row = service.store.start(video_id, "w")
    assert row is not None
    service.files.prepare(video_id, row["attempt"])
    service.files.path(video_id, row["attempt"], "video").write_bytes(video)
    assert service.store.complete(row, {"denoise": 1.0})


@contextmanager
def served(service: Service) -> Iterator[httpx.Client]:
    """A client of the service's API, on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as api:
            yield api
    finally:
        server.should_exit = True
        thread.join()
