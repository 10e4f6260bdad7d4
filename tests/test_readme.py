"""Every fenced command of the README runs as it stands, on a service of its own."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
SERVED_AT = "127.0.0.1:8000"
ENVIRONMENT = {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}


def commands() -> list[str]:
    return [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The project as a user has it, but for what commands write: `out/`, `runs/` and `data/`."""
    for entry in ROOT.iterdir():
        if entry.name not in ("out", "runs", "data"):
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def run(checkout: Path, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        shlex.split(command),
        cwd=checkout,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def served(checkout: Path, port: int) -> Iterator[None]:
    """`make serve` of the README, on another port than a user's own."""
    assert "make serve" in commands()
    process = subprocess.Popen(
        ["make", "serve", f"PORT={port}"], cwd=checkout, env=ENVIRONMENT, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # as Ctrl-C would: not make alone
        process.wait(timeout=30)


def test_make_demo_writes_an_mp4_twice_in_a_row(checkout: Path) -> None:
    """The first of the two commands; safe to repeat, and a prompt arrives as it was typed."""
    assert "make demo" in commands()
    video = checkout / "out" / "demo.mp4"
    for command in ("make demo", """make demo PROMPT='a "red" ball is dropped and bounces'"""):
        done = run(checkout, command)
        assert done.returncode == 0, done.stderr
        assert video.read_bytes()[4:8] == b"ftyp"
        assert "out/demo.mp4" in done.stdout and "denoise" in done.stdout
        video.unlink()
    assert 'Prompt: a "red" ball is dropped and bounces' in done.stdout


def test_make_test_runs_the_tests(checkout: Path) -> None:
    """The second command is the one that runs this; a dry run shows what it would do."""
    assert "make test" in commands()
    assert "pytest" in run(checkout, "make -n test").stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_the_calls_by_curl_work(checkout: Path) -> None:
    port = free_port()
    calls = [command for command in commands() if SERVED_AT in command]
    assert len(calls) == 2 and all(call.startswith("curl") for call in calls)
    with served(checkout, port):
        for call in calls:
            done = run(checkout, call.replace(SERVED_AT, f"127.0.0.1:{port}"))
            assert done.returncode == 0 and '"object":"' in done.stdout, done.stdout


def test_the_script_with_the_openai_client_works(checkout: Path) -> None:
    port = free_port()
    (script,) = [block for kind, block in BLOCKS if kind == "python"]
    script = script.replace(SERVED_AT, f"127.0.0.1:{port}")
    with served(checkout, port):
        python = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script]
        done = run(checkout, shlex.join(python))
    assert done.returncode == 0, done.stderr
    assert (checkout / "ball.mp4").read_bytes()[4:8] == b"ftyp"


def test_a_hub_id_without_a_network_is_refused_in_a_sentence(checkout: Path) -> None:
    """Weights cannot be fetched in a test: what is proven is that the command gets that far."""
    (command,) = [c for c in commands() if "MODEL=" in c and c.startswith("make serve")]
    done = run(checkout, f"{command} PORT={free_port()}", HF_HUB_OFFLINE="1")
    assert done.returncode != 0
    assert "Wan-AI/Wan2.1-T2V-1.3B-Diffusers" in done.stderr and "Traceback" not in done.stderr


LOCAL = [c for c in commands() if c.startswith(".venv/bin/")]


@pytest.mark.parametrize(
    "command",
    [pytest.param(c, marks=[pytest.mark.proof] if "train.py" in c else []) for c in LOCAL],
)
def test_local_commands_run(command: str, checkout: Path) -> None:
    begun = time.monotonic()
    done = run(checkout, command)
    assert done.returncode == 0, done.stderr
    if "train.py" in command:
        assert time.monotonic() - begun < 120, "the README says under two minutes"


def test_no_command_of_the_readme_is_left_out() -> None:
    covered = {"make demo", "make test", "make serve", *LOCAL}
    covered |= {c for c in commands() if SERVED_AT in c or "MODEL=" in c}
    assert set(commands()) == covered
