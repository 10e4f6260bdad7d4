"""Whatever is sent is refused, in bounded time and memory, and the service is well after."""

import gzip
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path

import httpx
import pytest

from serving.egress import Egress, Failed, Forbidden
from serving.intake import Unfit
from serving.intake.frames import read_video
from serving.intake.jail import Jail
from tests.serving.conftest import ROOT
from tests.serving.hostile import ADDRESSES, REQUESTS, SCHEMES, as_json, clip
from tests.serving.idle import idle_service
from tests.serving.receiver import listening

OTHER_LOOPBACK = "127.0.0.77"
SECONDS = 60.0
"""Twice what a decoder is given on an idle machine; the longest fetch takes 10."""
MEGABYTES = 250
"""The most that the API may have in memory, at any time."""


def answer(handler: BaseHTTPRequestHandler) -> None:
    """What a hostile server does with a request for an image."""
    path = handler.path.strip("/")
    if path == "nothing":
        return handler.connection.close()
    handler.send_response({"redirect": 302, "error": 500}.get(path, 200))
    if path == "redirect":
        handler.send_header("location", "http://127.0.0.1/")
    if path == "gzip":
        handler.send_header("content-encoding", "gzip")
    if path == "short":
        handler.send_header("content-length", "1000000")
    handler.end_headers()
    try:
        if path == "endless":
            for _ in range(1000):
                handler.wfile.write(bytes(1 << 20))
        elif path == "drip":
            for _ in range(200):
                handler.wfile.write(b"x")
                time.sleep(0.2)
        else:
            handler.wfile.write(gzip.compress(bytes(1 << 20)) if path == "gzip" else b"<p>x</p>")
    except OSError:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with listening(answer, host=OTHER_LOOPBACK) as url:
        yield url


def peak(pid: int) -> int:
    """The most megabytes that a process had in memory at any time."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, httpx.Client]]:
    """An API of its own, so that its memory is its own, and a client of it."""
    folder = tmp_path_factory.mktemp("api")
    with idle_service(folder):
        command = [sys.executable, "-m", "serving.cli", "api", "--port", "0", "--data", str(folder)]
        command += ["--private-networks", f"{OTHER_LOOPBACK}/32"]
        with subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=dict(os.environ)
        ) as api:
            assert api.stdout
            found = re.search(r"http://[\d.:]+", api.stdout.readline())
            assert found
            with httpx.Client(base_url=found[0], trust_env=False, timeout=SECONDS) as client:
                yield api.pid, client
            print(f"\n  the API had at most {peak(api.pid)} MB in memory")
            api.terminate()


SLOW = ("image, ", "video: pixels", "video: frames")
"""Those that keep the service busy for seconds."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.proof) if n.startswith(SLOW) else n for n in REQUESTS],
)
def test_it_is_refused_in_time_and_the_service_is_well(
    process: tuple[int, httpx.Client], server: str, name: str
) -> None:
    pid, api = process
    request = {"method": "POST", "path": "/v1/videos"} | as_json(REQUESTS[name](server))
    begun = time.monotonic()
    response = api.request(request.pop("method"), request.pop("path"), **request)
    assert time.monotonic() - begun < SECONDS
    assert 400 <= response.status_code < 500, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and len(response.content) < 2000
    assert "root:" not in response.text
    if " at " in name:  # refused for what it is, and not only as nobody answers there
        assert error["code"] == "invalid_value", error
    assert api.get("/healthz").status_code == 200
    assert peak(pid) < MEGABYTES


@pytest.mark.parametrize("url", [*ADDRESSES, *SCHEMES])
def test_an_address_that_is_not_public_is_not_even_looked_for(url: str) -> None:
    with pytest.raises(Forbidden):
        Egress([ip_network(f"{OTHER_LOOPBACK}/32")]).check(url)


def test_there_are_enough_of_them() -> None:
    assert len(REQUESTS) >= 60


def resolve_to(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Have names resolve to these addresses, one list after another; gives what was asked."""
    asked: list[str] = []

    def resolver(host: str, port: int | None, *_: object, **__: object) -> list[tuple[object, ...]]:
        if host[0].isdigit():  # an address, which is connected to
            found = [host]
        else:
            asked.append(host)
            found = answers[min(len(asked), len(answers)) - 1]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0)) for address in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return asked


def test_one_private_address_among_public_ones_forbids_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(Forbidden, match="at a public address"):
        Egress().check("https://mixed.example/")


def test_a_name_that_moves_to_a_private_address_is_refused_where_it_would_be_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: public when it is checked, ours when it is asked."""
    resolve_to(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    egress = Egress()
    egress.check("https://moving.example/")
    with pytest.raises(Forbidden, match="at a public address"):
        egress.post("https://moving.example/", {}, b"", 1)


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    port = server.rsplit(":", 1)[1]
    asked = resolve_to(monkeypatch, [OTHER_LOOPBACK], ["127.0.0.1"])
    egress = Egress([ip_network(f"{OTHER_LOOPBACK}/32")])
    assert egress.get(f"http://moving.example:{port}/page", 100, 5) == b"<p>x</p>"
    assert asked == ["moving.example"]
    with pytest.raises(Failed, match="redirects"):
        Egress([ip_network("127.0.0.0/8")]).get(f"{server}/redirect", 100, 5)


def test_a_decoder_can_open_nothing_and_a_lost_one_is_replaced(tmp_path: Path) -> None:
    jail = Jail()
    (tmp_path / "clip.mp4").write_bytes(clip())
    with (tmp_path / "clip.mp4").open("rb") as file:
        facts = jail.measure(file)
        assert (facts["width"], facts["num_frames"], facts["container"]) == (64, 9, "mp4")
        assert jail._zygote
        jail._zygote.kill()
        jail._zygote.wait()
        assert jail.measure(file) == facts
        with (tmp_path / "frames").open("wb") as target:
            assert jail.frames(file, target)["shape"] == [9, 64, 64, 3]
        assert (tmp_path / "frames").stat().st_size == 9 * 64 * 64 * 3
    jail.close()


def test_a_few_frames_do_not_become_millions(tmp_path: Path) -> None:
    """Of 2 MB, at one frame a minute: at 240 a second they would be 25 GB."""
    path = tmp_path / "slow.mp4"
    path.write_bytes(clip(side=256, rate=Fraction(1, 60)))
    frames, fps = read_video(path, 1)
    assert frames.shape == (9, 256, 256, 3) and fps == pytest.approx(1 / 60)
    with pytest.raises(Unfit, match="of at most 16384 frames at 256x256 and 240 frames a second"):
        read_video(path, 240)


LOCKED_IN = """
import os, resource, socket, sys
from serving.intake import zygote
zygote._lock_in(sys.argv[1])
for attempt in (lambda: open("/etc/passwd"), lambda: socket.socket(), lambda: os.pipe()):
    try:
        attempt()
        sys.exit("it opened something")
    except OSError:
        pass
if sys.argv[2] == "memory":
    try:
        bytes(3 << 30)
        sys.exit("it took the memory")
    except MemoryError:
        print("bounded")
else:
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
    while True:
        pass
"""


@pytest.mark.parametrize(("what", "ends"), [("memory", 0), ("time", -9)])
def test_a_decoder_that_was_taken_over_is_bounded(what: str, ends: int) -> None:
    command = [sys.executable, "-c", LOCKED_IN, "picture", what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode in (ends, -24 if ends else 0), done.stderr


def test_a_decoder_that_ends_without_a_word_refuses_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    jail = Jail()
    monkeypatch.setattr(jail, "_send", lambda *_: None)
    (tmp_path / "x").write_bytes(b"x")
    with (tmp_path / "x").open("rb") as file, pytest.raises(Unfit) as refusal:
        jail.measure(file)
    assert refusal.value.code == "file_too_large"
