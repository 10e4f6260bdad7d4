"""The latency benchmark against a server whose delays are known, in virtual time.

Percentiles are right to 1 %: a poll comes after at most 2 % of what has passed, and a completion is
put halfway between two polls. A fault planted and seen: percentiles of what was delivered alone.
"""

import csv
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.latency.__main__ import Bench, measure, parser
from benchmarks.latency.scenarios import prompts
from benchmarks.latency.statistics import quantile, regressions
from tests.benchmarks.scripted_server import DOWNLOAD, ScriptedServer, run


def bench(server: ScriptedServer, folder: Path, *arguments: str) -> Bench:
    """Run the command against the server."""
    base = ["--base-url", "http://server/v1", "--model", "m", "--out", str(folder)]
    options = parser().parse_args([*base, "--runs", "1", "--warm-up", "0", *arguments])
    return run(measure(options, transport=server.transport()))


def truth(server: ScriptedServer, q: float, count: int) -> float:
    """A quantile of what the server knows that its last jobs took from their arrival."""
    spent = [job.finish + DOWNLOAD - job.arrival for job in server.jobs[-count:]]
    return float(np.quantile(spent, q))


def uneven(number: int) -> float:
    return random.Random(number).uniform(0.8, 2.5)


def test_percentiles_of_known_delays_are_right_to_one_per_cent(tmp_path: Path) -> None:
    """500 requests at 0.4 a second to a worker that takes 1.65 s each: two thirds busy."""
    server = ScriptedServer(uneven)
    found = bench(server, tmp_path, "--scenario", "open", "--rate", "0.4", "--count", "500")
    (row,) = found.rows
    for name, q in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert row[f"{name}_s"] == pytest.approx(truth(server, q, 500), rel=0.01), name
        assert row[f"{name}_low"] <= row[f"{name}_s"] <= row[f"{name}_high"]
    wait = sum(job.start - job.arrival for job in server.jobs)
    whole = sum(job.finish - job.arrival for job in server.jobs)
    assert row["queue_share"] == pytest.approx(wait / whole, rel=0.02)
    pace = np.median([(job.finish - job.start) / 2 for job in server.jobs])
    assert row["seconds_per_video_second"] == pytest.approx(pace, rel=0.02)
    assert row["step_p50_s"] == pytest.approx(0.75 * 2 * pace / 10, rel=0.02)
    assert row["videos_per_s"] == pytest.approx(500 / (server.jobs[-1].finish + DOWNLOAD), rel=0.01)


def test_the_open_loop_sees_a_stall_that_a_closed_one_hides(tmp_path: Path) -> None:
    """A second each, but one minute in which nothing moves: to a client that waits for its answer
    that is one slow request of 500, to those who come by the clock it is a tenth of them."""
    stalled = [ScriptedServer(lambda _: 1.0, stall=(100.0, 160.0)) for _ in range(2)]
    closed = bench(stalled[0], tmp_path, "--scenario", "single", "--count", "500").rows[0]
    open_ = bench(
        stalled[1], tmp_path, "--scenario", "open", "--rate", "0.5", "--count", "500"
    ).rows[0]
    assert closed["p99_s"] == pytest.approx(1 + DOWNLOAD, rel=0.01) and closed["max_s"] > 60
    for name, q in (("p95", 0.95), ("p99", 0.99)):
        assert open_[f"{name}_s"] == pytest.approx(truth(stalled[1], q, 500), rel=0.01)
        assert open_[f"{name}_s"] > 20


def test_what_is_not_delivered_is_never_delivered(tmp_path: Path) -> None:
    """Of 60 requests some fail and the slowest are given up: p50 is told, p90 has no end."""
    server = ScriptedServer(lambda _: 1.0, fails=lambda n: n % 9 == 8)
    found = bench(server, tmp_path, "--scenario", "offline", "--count", "60", "--timeout", "45.5")
    (row,) = found.rows
    late = [job.finish + DOWNLOAD > 45.5 for job in server.jobs]
    failed = sum(job.failed for job, missed in zip(server.jobs, late, strict=True) if not missed)
    assert (row["failed"], row["timeout"]) == (failed, sum(late)) and sum(late) == 15
    assert row["p50_s"] == pytest.approx(34, rel=0.03) and row["p90_s"] is None
    assert row["max_s"] is None


def test_the_highest_rate_that_keeps_the_slo_is_found(tmp_path: Path) -> None:
    """M/D/1 of 1 s: 95 % within 2.1 s up to about 0.55 a second; every rate tried has a row."""
    server = ScriptedServer(lambda _: 1.0)
    found = bench(server, tmp_path, "--scenario", "open", "--count", "100", "--timeout", "8")
    rows = [row for row in found.rows if row["scenario"] == "open"]
    kept = {row["rate"]: (row["p95_s"] or math.inf) <= row["slo_s"] for row in rows}
    assert len(kept) == 7 and found.rows[0]["scenario"] == "single"
    best = found.told["highest_rate"]
    assert 0.3 < best < 0.8 and kept[best]
    assert not any(ok for rate, ok in kept.items() if rate > best)
    assert all(row["goodput"] >= 0.95 for row in rows if kept[row["rate"]])


def test_every_scenario_is_run_and_reported(tmp_path: Path) -> None:
    server = ScriptedServer(lambda _: 1.0)
    names = ["single", "closed", "offline", "burst", "mixed", "cold"]
    arguments = [word for name in names for word in ("--scenario", name)]
    arguments += ["--count", "12", "--concurrency", "2", "--concurrency", "4", "--warm-up", "3"]
    arguments += ["--mix", "64x64:8=1,128x64=3", "--apart", "7", "--param", "steps=4"]
    found = bench(server, tmp_path, *arguments, "--runs", "2")
    told = [row["scenario"] for row in found.rows]
    assert told == [
        "single",
        "closed",
        "closed",
        "offline",
        "burst",
        "burst",
        "mixed",
        "mixed",
        "cold",
    ]
    by_name = {
        (row["scenario"], row.get("concurrency", row.get("size"))): row for row in found.rows
    }
    assert by_name["single", 1]["p50_s"] == pytest.approx(1.05, rel=0.01)
    # The worker never rests, so a client that looks late by a poll has waited so much less.
    assert by_name["closed", 4]["p50_s"] == pytest.approx(4.0, rel=0.03)
    assert by_name["burst", 4]["p50_s"] == pytest.approx(2.55, rel=0.02)  # 1, 2, 3 and 4 s
    assert by_name["single", 1]["n"] == 24 and by_name["cold", None]["n"] == 1
    assert all(row["p95_s"] is None for row in found.rows), "24 are too few for a p95"
    bodies = [job.body for job in server.jobs]
    assert all('name="steps"' in body for body in bodies)
    sizes = [body.count("64x64") for body in bodies]
    assert 3 <= sum(sizes) <= 24, "a quarter of the 48 mixed ones"
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["rows"] == found.rows and report["client"]["versions"]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == 2 and "http:" not in page.replace("http://server/v1", "")
    with (tmp_path / "samples.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(row["n"] for row in found.rows)
    assert len({line["prompt"] for line in lines}) == len(lines), "no cache can answer"


def test_prompts_are_shuffled_by_the_seed_and_never_alike() -> None:
    first, again, other = (list(prompts([], 600, seed)) for seed in (1, 1, 2))
    assert first == again != other and sorted(first) == sorted(other) and len(set(first)) == 600


def test_an_interval_holds_the_true_percentile_as_often_as_it_says() -> None:
    """2000 samples of 100 exponential delays: 95 %, up to three standard errors of the count."""
    draw, truth_ = np.random.default_rng(0), -math.log(0.05)
    found = [quantile(draw.exponential(size=100), 0.95) for _ in range(2000)]
    held = np.mean([low <= truth_ <= high for _, low, high in found if low is not None])
    assert held >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 2000)
    assert quantile([1.0] * 99, 0.95) is None and quantile([1.0] * 499, 0.99) is None


def report(scale: float, seed: int) -> dict[str, Any]:
    """100 prompts that differ fivefold, measured with 3 % of noise."""
    base, noise = np.random.default_rng(0), np.random.default_rng(seed)
    seconds = base.uniform(1, 5, 100) * scale * noise.normal(1, 0.03, 100)
    return {"latencies": {"single": {f"p{n}": float(s) for n, s in enumerate(seconds)}}}


@pytest.mark.parametrize(
    ("scale", "worse"), [(1.0, False), (1.03, False), (1.2, True), (0.8, False)]
)
def test_only_what_is_clearly_slower_is_a_regression(scale: float, worse: bool) -> None:
    assert bool(regressions(report(scale, 2), report(1.0, 1))) is worse
