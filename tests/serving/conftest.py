"""A tiny checkpoint of random weights in the real format, and services that run on it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from benchmarks.checkpoint import EXAMPLES as EXAMPLES
from benchmarks.checkpoint import WORDS as WORDS
from benchmarks.checkpoint import write_tiny
from tests.serving.postgres import Postgres

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like the embedded model's: 64x64, 17 frames, 8 a second, a few words."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    write_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def able(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as if it had been trained to start from whatever there is."""
    from model.transformer import SpacetimeTransformer

    folder = tmp_path_factory.mktemp("able") / "tiny"
    shutil.copytree(checkpoint, folder)
    config = SpacetimeTransformer.load_config(folder / "transformer")
    network = SpacetimeTransformer.from_config(config, reference_tokens=True)
    network.save_pretrained(folder / "transformer")
    index = json.loads((folder / "model_index.json").read_text())
    del index["capabilities"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def workers_of(pid: int) -> list[int]:
    """Process ids of a service's workers; its decoders are children of it, too."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = {int(pid) for task in tasks for pid in (task / "children").read_text().split()}
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
    return [child for child, command in commands.items() if b"serving.slot" in command]


@dataclass
class Served:
    """A running `kinetograph serve`, a client of it, and what it has written to stderr."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    api: httpx.Client
    log: Path

    def worker_pid(self) -> int:
        """The process id of its only worker."""
        (pid,) = workers_of(self.process.pid)
        return pid

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal it, if it still runs, wait for its end and give its exit status."""
        self.api.close()
        with self.process:
            self.process.send_signal(how)
            return self.process.wait(20)

    def create(self, prompt: str, **fields: Any) -> dict[str, Any]:
        """Queue a video."""
        response = self.api.post("/v1/videos", json={"prompt": prompt, **fields})
        assert response.status_code == 200, response.text
        video: dict[str, Any] = response.json()
        return video

    def wait(self, video_id: str, until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll a video until it is as wanted; the service is given three minutes."""
        deadline = time.monotonic() + 180
        while True:
            video: dict[str, Any] = self.api.get(f"/v1/videos/{video_id}").json()
            if until(video):
                return video
            assert time.monotonic() < deadline, video
            time.sleep(0.02)

    def finish(self, video_id: str) -> dict[str, Any]:
        """Poll a video until its job is over."""
        return self.wait(video_id, lambda video: video["status"] in ("completed", "failed"))


class Serve(Protocol):
    """Starts `kinetograph serve` on a checkpoint or a folder of models' files, and waits for it."""

    def __call__(self, model: Path, data: Path, *options: str) -> Served: ...


@pytest.fixture(scope="session")
def serve_on(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Give `serve_on(model, data, *options)`; what it starts is stopped in the end."""
    running: list[Served] = []

    def serve_on(model: Path, data: Path, *options: str) -> Served:
        log = tmp_path_factory.mktemp("log") / "stderr"
        what = "--model" if (model / "model_index.json").is_file() else "--models-dir"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving.cli", "serve", "--port", "0"]
                + [what, str(model), "--data", str(data), *options],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert process.stdout
        line = process.stdout.readline()
        assert " is ready at http" in line, log.read_text()
        url = line.split(" at ")[1].split()[0]
        api = httpx.Client(base_url=url, trust_env=False, timeout=30)
        running.append(Served(process, url, data, api, log))
        return running[-1]

    yield serve_on
    for served in running:
        served.stop()


@pytest.fixture(scope="session")
def service(serve_on: Serve, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One service for all the tests that do not break theirs."""
    return serve_on(checkpoint, tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="session")
def proof_model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, which here may also draw what takes memory and room on the disk."""
    folder = tmp_path_factory.mktemp("proof") / "tiny"
    shutil.copytree(checkpoint, folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["limits"]["sizes"] += ["256x256"]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server that the tests may stop and start."""
    server = Postgres()
    server.start()
    yield server
    server.remove()
