"""Workers whose devices have different memory: what is admitted fits whichever of them takes it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import sqlalchemy as sa

import serving.slot
from serving.catalog import Entry
from serving.service import Service
from serving.settings import Settings
from serving.store import Store
from serving.tables import models, workers
from serving.worker import open_host
from tests.serving.idle import TINY, idle_service, served

STAGES = {"denoise": (0.0, 0.0, 1.0)}
ASKED = {"prompt": "a cat", "model": "tiny"}


def having(limit: int) -> dict[str, Any]:
    memory = {"stages": STAGES, "frames_per_latent": 4, "limit": limit}
    return TINY | {"size_multiple": 16, "memory": memory}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """With a worker that has room for the default, 64 x 64 x 5, and another that has half of it."""
    with idle_service(tmp_path_factory.mktemp("idle"), having(30_000)) as service:
        add(service.store, "small", having(15_000))
        yield service


@pytest.fixture(scope="module")
def api(service: Service) -> Iterator[httpx.Client]:
    with served(service) as api:
        yield api


def add(store: Store, name: str, description: dict[str, Any]) -> None:
    with store.transaction() as connection:
        heard = connection.scalar(sa.select(workers.c.heartbeat_at))
        worker = {"executor": name, "incarnation": f"{name}.1", "device": "cpu", "state": "ready"}
        times = {"heartbeat_at": heard - 1, "started_at": heard}
        connection.execute(sa.insert(workers).values(worker | times))
        row = {"executor": name, "name": "tiny", "position": 0, "description": description}
        connection.execute(sa.insert(models).values(row))


def test_the_one_with_least_room_decides_while_it_is_heard(
    api: httpx.Client, service: Service
) -> None:
    refused = api.post("/v1/videos", json=ASKED)
    assert refused.json()["error"]["code"] == "insufficient_memory"
    assert api.get("/v1/models/tiny").json()["memory"]["limit"] == 15_000
    with service.store.transaction() as connection:
        silent = sa.update(workers).where(workers.c.executor == "small").values(heartbeat_at=1.0)
        connection.execute(silent)
    assert api.post("/v1/videos", json=ASKED).status_code == 200
    assert api.get("/v1/models/tiny").json()["memory"]["limit"] == 30_000
    with service.store.transaction() as connection:
        connection.execute(sa.update(workers).values(heartbeat_at=1.0))
    assert api.post("/v1/videos", json=ASKED).status_code == 200, "the one that was seen last"


def test_what_is_free_is_shared_by_those_of_one_service_on_a_device(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As is told by the API: a third of what is free, where three share the CPU."""
    free = psutil.virtual_memory().available
    host = open_host([Entry(name="tiny", path=str(checkpoint))], "cpu", sharing=3)
    with idle_service(tmp_path, asdict(host.descriptions()[0])) as service, served(service) as api:
        limit = api.get("/v1/models/tiny").json()["memory"]["limit"]
    assert 0.5 * free / 3 < limit < 1.5 * free / 3

    def work(_: Settings, __: str, device: str, sharing: int, ___: Any) -> None:
        told.append((device, sharing))

    told: list[tuple[str, int]] = []
    monkeypatch.setattr(serving.slot, "_work", work)
    monkeypatch.setattr(serving.slot.signal, "signal", lambda *_: None)
    monkeypatch.setattr(serving.slot.logs, "configure", lambda *_: None)
    for gpus, expected in (
        (0, [("cpu", 3)] * 3),
        (2, [("cuda:0", 2), ("cuda:1", 1), ("cuda:0", 2)]),
        (4, [("cuda:0", 1), ("cuda:1", 1), ("cuda:2", 1)]),
    ):
        told.clear()
        monkeypatch.setattr("torch.cuda.is_available", lambda gpus=gpus: gpus > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda gpus=gpus: gpus)
        for index in range(3):
            serving.slot.run(Settings(workers=3), "slot", index)
        assert told == expected
