"""What a latency is told with: memory, share of the peak, caches, and if videos are as good."""

import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import psutil
import pytest

from benchmarks.checkpoint import write_tiny
from benchmarks.latency import quality
from benchmarks.latency.client import Sample
from benchmarks.latency.compute import Compute
from benchmarks.latency.resources import Watch, local_server
from benchmarks.latency.statistics import wins
from model.video import write_mp4
from tests.benchmarks.scripted_server import DOWNLOAD, ScriptedServer
from tests.benchmarks.test_latency import bench

HUNGRY = """
import subprocess, sys, time
held = bytearray(%d)
child = "import time; held = bytearray(100_000_000); print(1, flush=True); time.sleep(60)"
running = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
running.stdout.readline()
print(1, flush=True)
sys.stdin.read()
running.kill()
"""


def test_memory_is_that_of_a_process_and_its_children(tmp_path: Path) -> None:
    """200 MB and, in a child, 100 MB; two interpreters take 10 to 30 MB each."""
    begun = subprocess.Popen(
        [sys.executable, "-c", HUNGRY % 200_000_000], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert begun.stdout is not None
        begun.stdout.readline()
        with Watch(psutil.Process(begun.pid), tmp_path) as watch:
            pass
    finally:
        begun.communicate()
    assert 0.305 <= watch.found["rss_peak_gb"] <= 0.38
    assert "energy_j" not in watch.found


def test_energy_is_what_the_processors_counted_meanwhile(tmp_path: Path) -> None:
    counters = [tmp_path / f"intel-rapl:{n}" / "energy_uj" for n in range(2)]
    for counter in counters:
        counter.parent.mkdir()
        counter.write_text("1000000\n")
    with Watch(psutil.Process(), tmp_path) as watch:
        counters[1].write_text("4500000\n")
    assert watch.found["energy_j"] == pytest.approx(3.5, abs=0.01)


def test_a_server_is_found_on_this_machine_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert local_server(f"http://127.0.0.1:{port}/v1") == psutil.Process()
    assert local_server(f"http://127.0.0.1:{port}/v1") is None
    assert local_server("http://server/v1") is None
    with Watch(None) as watch:
        pass
    assert watch.found == {}


def test_share_of_the_peak_is_by_the_formula(tmp_path: Path) -> None:
    """320 tokens, 24 channels, 1 block: 2·P·L + 4·n·L²·d, twice a step under guidance."""
    write_tiny(tmp_path / "tiny")
    compute = Compute.of(str(tmp_path / "tiny"), peak=1e9)
    assert (compute.layers, compute.width, compute.pixels) == (1, 24, 64)
    told: dict[str, Any] = {"steps": 10, "frames": 17, "size": "64x64", "timings": {"denoise": 2.0}}
    guided, plain = (Sample("a", 0.0, guidance=scale, **told) for scale in (2.5, 1.0))
    one = 2 * compute.parameters * 320 + 4 * 320**2 * 24
    assert compute.flops(guided) == 20 * one and compute.flops(plain) == 10 * one
    assert compute.mfu([guided] * 3 + [Sample("b", 0.0)]) == pytest.approx(10 * one / 1e9)
    assert compute.mfu([Sample("b", 0.0)]) is None


@pytest.mark.parametrize("cached", [False, True])
def test_a_cache_is_seen(tmp_path: Path, cached: bool) -> None:
    """Thirty pairs of 1 ± 0.1 s; with a cache, 0.2 s for what was asked before."""
    server = ScriptedServer(lambda n: 0.2 if cached and n % 2 else 1 + 0.1 * (n * 7 % 5 - 2) / 2)
    found = bench(server, tmp_path, "--scenario", "repeat", "--count", "30")
    (row,) = found.rows
    assert row["cached"] is cached and row["n"] == 60
    asked = [re.findall(r'name="(?:prompt|seed)"\s+(.*?)\r', job.body) for job in server.jobs]
    assert asked[::2] == asked[1::2] and len(set(map(tuple, asked))) == 30
    if cached:
        assert row["repeat_low"] <= 0.8 <= row["repeat_high"] + 0.02


def test_rows_tell_deadlines_and_the_price(tmp_path: Path) -> None:
    """Offline, a second each: 4 of 12 within 5 s, 9 within 10 s; 3600 an hour is 1 a second."""
    server = ScriptedServer(lambda _: 1.0)
    arguments = (
        "--scenario",
        "offline",
        "--count",
        "12",
        "--price",
        "3600",
        "--fact",
        "dtype=fp32",
    )
    found = bench(server, tmp_path, *arguments)
    (row,) = found.rows
    assert [row[f"goodput_{s}s"] for s in (5, 10, 30)] == pytest.approx(
        [4 / 12, 9 / 12, 1], abs=1e-3
    )
    assert row["cost_per_video"] == pytest.approx((12 + DOWNLOAD) / 12, rel=0.02)
    assert found.told["facts"] == {"dtype": "fp32"}


class Painter:
    """A server whose videos are grey: 85 of 255, and with 50 steps 170; H.264 keeps both."""

    def __init__(self, folder: Path) -> None:
        self.seeds: list[bytes] = []
        self.files: list[bytes] = []
        for shade in (85, 170):
            path = folder / f"{shade}.mp4"
            write_mp4(path, np.full((5, 32, 32, 3), shade, np.uint8), 8)
            self.files.append(path.read_bytes())

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            body = request.read()
            self.seeds += re.findall(rb'name="seed"\s+(\d+)', body)
            number = int(b'name="num_inference_steps"\r\n\r\n50' in body)
            told = {"id": str(number), "status": "completed", "seconds": "0.6"}
            return httpx.Response(200, json=told)
        return httpx.Response(200, content=self.files[int(request.url.path.split("/")[3])])


def test_videos_are_held_against_those_of_all_steps(tmp_path: Path) -> None:
    """85 shades apart is 9.54 dB; of videos of the same prompts and seeds."""
    painter = Painter(tmp_path)
    server: Any = SimpleNamespace(transport=lambda: httpx.MockTransport(painter))
    arguments = ("--full-steps", "50", "--full-count", "3", "--scenario", "single", "--count", "2")
    found = bench(server, tmp_path / "out", *arguments)
    assert found.rows[0]["psnr_db"] == pytest.approx(9.54, abs=0.01)
    assert found.rows[0]["psnr_n"] == 3
    assert painter.seeds[0:6:2] == painter.seeds[1:6:2] and len(set(painter.seeds[:6])) == 3
    assert quality.psnr(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 3))) == 100


@pytest.mark.parametrize(("low", "kept"), [(-0.009, True), (-0.02, False)])
def test_faster_is_a_win_only_if_no_point_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, low: float, kept: bool
) -> None:
    import benchmarks.physics.run

    found = SimpleNamespace(a=0.8, b=0.79, difference=-0.01, interval=(low, 0.01))
    monkeypatch.setattr(benchmarks.physics.run, "compare_reports", lambda *_: found)
    for name in "ab":
        (tmp_path / name).write_text("{}")
    row = quality.physics(tmp_path / "a", tmp_path / "b")
    assert row["kept"] is kept and row["pcs"] == 0.79
    seconds = {f"p{n}": 1 + n / 100 for n in range(20)}
    before = {"latencies": {"single": {k: 2 * v for k, v in seconds.items()}}}
    now = {"latencies": {"single": seconds}, "rows": [row]}
    (told,) = wins(now, before)
    assert told.endswith("a win") if kept else "no win" in told
    assert wins({**now, "latencies": before["latencies"]}, before) == []
    assert "quality unknown" in wins({**now, "rows": [{}]}, before)[0]
