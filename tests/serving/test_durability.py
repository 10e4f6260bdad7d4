"""A job is never lost: not with its worker, not with the service; and nothing is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.store import Store
from serving.tables import ATTEMPTS
from tests.serving.conftest import EXAMPLES, ROOT, Serve, Served

LONG = 1000
"""Steps that take the tiny model a second or more, so that there is a middle to be killed in."""


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A process that nobody has waited for is a zombie: it runs no more.
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("durable")


@pytest.fixture(scope="module")
def fragile(serve_on: Serve, checkpoint: Path, data: Path) -> Served:
    """A service that these tests may hurt, and whose worker hands its job back at once."""
    return serve_on(checkpoint, data, "--grace", "0")


def test_a_job_whose_worker_is_killed_is_finished_by_the_next_worker(fragile: Served) -> None:
    job = fragile.create(EXAMPLES[0], num_inference_steps=LONG, size="64x64")
    behind = fragile.create(EXAMPLES[1], size="64x64")
    fragile.wait(job["id"], lambda video: video["progress"] > 20)
    killed = fragile.worker_pid()
    os.kill(killed, signal.SIGKILL)
    done = fragile.finish(job["id"])
    assert (done["status"], done["error"]) == ("completed", None)
    assert fragile.finish(behind["id"])["status"] == "completed"
    assert gone(killed) and fragile.worker_pid() != killed
    store = Store(f"sqlite:///{fragile.data / 'kinetograph.db'}")
    row = store.get(job["id"])
    store.close()
    assert row and (row["attempt"], row["attempts_left"]) == (2, ATTEMPTS - 2)
    folder = fragile.data / "videos" / job["id"]
    assert sorted(path.name for path in folder.iterdir()) == ["2.jpg", "2.mp4", "2.webp"]


def test_a_second_service_on_the_same_data_is_refused_in_a_sentence(fragile: Served) -> None:
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", "0"]
    second = subprocess.run(
        [*command, "--data", str(fragile.data)], cwd=ROOT, capture_output=True, text=True
    )
    assert second.returncode == 1 and second.stdout == ""
    assert second.stderr.startswith("kinetograph: Another service is using the data folder")
    assert second.stderr.count("\n") == 1


def test_a_restarted_service_has_its_finished_videos_and_finishes_its_queue(
    fragile: Served, serve_on: Serve, checkpoint: Path
) -> None:
    finished = fragile.finish(fragile.create(EXAMPLES[0], size="64x64")["id"])
    path = f"/v1/videos/{finished['id']}/content"
    before = fragile.api.get(path)
    running = fragile.create(EXAMPLES[0], num_inference_steps=LONG, size="64x64")
    queued = fragile.create(EXAMPLES[1], size="64x64")
    fragile.wait(running["id"], lambda video: video["progress"] > 10)
    worker = fragile.worker_pid()
    fragile.stop(signal.SIGTERM)
    assert gone(worker)
    assert "Traceback" not in fragile.log.read_text()

    again = serve_on(checkpoint, fragile.data)
    assert again.api.get(f"/v1/videos/{finished['id']}").json() == finished
    after = again.api.get(path)
    assert (after.content, after.headers["etag"]) == (before.content, before.headers["etag"])
    for job in (running, queued):
        assert again.finish(job["id"])["status"] == "completed"
    store = Store(f"sqlite:///{fragile.data / 'kinetograph.db'}")
    row = store.get(running["id"])
    store.close()
    # Stopped in order, the worker handed its job back: that start is not counted.
    assert row and (row["attempt"], row["attempts_left"]) == (2, ATTEMPTS - 1)

    worker = again.worker_pid()
    again.process.kill()
    wait_until_gone(worker)


@pytest.mark.parametrize("how", ["model", "port"])
def test_a_service_that_cannot_start_says_why_in_a_sentence(
    how: str, service: Served, tmp_path: Path
) -> None:
    port = service.url.rsplit(":", 1)[1] if how == "port" else "0"
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", port]
    command += ["--model", str(tmp_path / "nothing"), "--data", str(tmp_path / "data")]
    failed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert failed.returncode == 1 and failed.stdout == ""
    assert "Traceback" not in failed.stderr
    if how == "port":
        assert failed.stderr.startswith(f"kinetograph: Cannot listen on 127.0.0.1, port {port} ")
    else:
        assert f"{tmp_path / 'nothing'}: no such folder" in failed.stderr
