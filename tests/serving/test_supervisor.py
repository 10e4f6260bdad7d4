"""A worker that stands still is killed and followed by another; a slow start is no standstill."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from serving.settings import Settings
from serving.store import Store
from serving.supervisor import Supervisor

SLOT = """
import json, os, signal, sys, time

told = json.loads(sys.stdin.readline())
lives = os.path.exists("born")
with open("born", "a") as file:
    print(time.monotonic(), file=file)
if lives:
    time.sleep(1.6)  # longer than it may be silent later
for _ in range(16 if lives else 3):
    os.write(told["pulse"], b".")
    time.sleep(0.1)
open("stayed" if lives else "stood", "w").close()
os.kill(os.getpid(), signal.SIGSTOP)
"""
"""In place of `serving.slot`: stops itself after 0.3 s; its successor not before 3.2 s."""


def test_a_worker_that_stands_still_is_killed_and_another_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__init__.py").touch()
    (tmp_path / "serving" / "slot.py").write_text(SLOT)
    monkeypatch.chdir(tmp_path)  # where `python -m` looks first
    settings = Settings(data=tmp_path, lease=1, grace=0.3)
    store = Store(settings.database_url)
    store.create_tables()
    gave_up = threading.Event()
    with (tmp_path / "lock").open("w") as lock:
        supervisor = Supervisor(settings, store.engine, "a", 0, lock.fileno(), gave_up.set)
        deadline = time.monotonic() + 60
        while not (tmp_path / "stayed").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        supervisor.stop()
        supervisor.join()
    store.close()
    first, second = map(float, (tmp_path / "born").read_text().split())
    # Beats for 0.2 s, silence of 1.3 s, and half a second until another is started.
    assert second - first > 0.2 + 1.3 + 0.4 and not gave_up.is_set()


def test_a_worker_whose_service_is_gone_before_it_is_told_what_to_do_leaves_quietly() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "serving.slot"], input=b"", capture_output=True, timeout=60
    )
    assert (told.returncode, told.stderr) == (0, b"")
