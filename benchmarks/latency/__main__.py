"""How long does a `/v1/videos` server take? Any server, by the protocol of docs/performance.md.

    python -m benchmarks.latency --base-url http://127.0.0.1:8000/v1 --model m --scenario single \\
        --out out/latency

single   one request in flight, the next when it is done
closed   the same with 2, 4 and 8 in flight, or what --concurrency says
open     requests by the clock, of a Poisson process, whatever became of those before; a latency is
         counted from when a request ought to have been sent. Without --rate, the highest rate is
         searched at which 95 % are delivered within the SLO: --slo, or twice the median of `single`
offline  all at once
burst    --concurrency at once, again and again, --apart seconds apart
mixed    as `closed`, of sizes and durations drawn by weight: --mix 1280x720:8=1,832x480:4=3
repeat   as `single`, but everything is asked for twice in a row: shows whether a cache answers
cold     the first request after the server's start: start it, then run this; nothing warms it up

Everything is done --runs times. A percentile is told only where five samples lie beyond it. What is
not delivered counts as never delivered. `report.json`, `samples.csv` and `report.html` are written
after every scenario. With --baseline, the process ends with 1 where a median is longer than there
by 5 % and by three standard errors. A shorter one is a win only if --scores, two reports of
benchmarks.physics over the same prompts, exclude a loss of more than a point of PCS. --full-steps
tells how far videos are from those of so many steps. Of a server on this machine memory and, where
it can be read, energy are told; with --checkpoint, the share of the peak that denoising reaches.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.environment import environment
from benchmarks.latency.client import Sample
from benchmarks.latency.compute import Compute
from benchmarks.latency.quality import fidelity, physics
from benchmarks.latency.report import write
from benchmarks.latency.resources import Watch, local_server
from benchmarks.latency.scenarios import (
    Fields,
    bursts,
    by_clock,
    closed,
    highest_rate,
    orders,
    poisson,
    prompts,
)
from benchmarks.latency.statistics import quantile, regressions, repeats, summary, wins

SCENARIOS = ("single", "closed", "open", "offline", "burst", "mixed", "repeat", "cold")
HALVINGS = 6


class Bench:
    """A server, what is asked of it, and what was found so far."""

    def __init__(self, http: httpx.AsyncClient, options: argparse.Namespace) -> None:
        self.http, self.options = http, options
        self.rows: list[dict[str, Any]] = []
        self.samples: dict[str, list[Sample]] = {}
        self.asked = 0
        self.server = local_server(options.base_url)
        self.quality: dict[str, Any] = physics(*options.scores) if options.scores else {}
        self.compute: Compute | None = None
        if options.checkpoint and (peak := options.peak_tflops):
            self.compute = Compute.of(options.checkpoint, peak * 1e12)
        self.told: dict[str, Any] = {"server": options.base_url, "model": options.model}
        self.told |= {"requested": dict(options.param), "facts": dict(options.fact)}

    def orders(
        self, count: int, run: int, arrivals: Sequence[float] | None = None, mixed: bool = False
    ) -> list[Any]:
        """As many requests with prompts never asked for before, in an order that runs share."""
        texts = list(prompts(self.options.prompt, count, self.options.seed, self.asked))
        self.asked += count
        body = {"model": self.options.model, **dict(self.options.param)}
        body = {name: value for name, value in body.items() if value is not None}
        variants = [(body, 1.0)]
        if mixed:
            variants = [(body | fields, weight) for fields, weight in self.options.mix]
        return orders(texts, arrivals or [0.0] * count, variants, self.options.seed + run)

    async def warm_up(self) -> None:
        """Ask for some videos that do not count."""
        await closed(self.http, self.orders(self.options.warm_up, 0), self.options.timeout, 1)

    async def compare_with_full_steps(self) -> None:
        """Have every row say how far videos are from those of all steps."""
        asked = self.orders(self.options.full_count, 0)
        timeout = self.options.timeout
        self.quality |= await fidelity(self.http, asked, self.options.full_steps, timeout)

    async def measure(
        self,
        name: str,
        run: Callable[[int], Any],
        slo: float | None = None,
        **told: Any,
    ) -> dict[str, Any]:
        """Do something `--runs` times and add a row."""
        with Watch(self.server) as watch:
            runs = [await run(number) for number in range(self.options.runs)]
        row = summary(name, runs, slo, **told) | watch.found | self.quality
        if self.compute is not None:
            row["mfu"] = self.compute.mfu([sample for samples in runs for sample in samples])
        if self.options.price and row["videos_per_s"]:
            row["cost_per_video"] = self.options.price / 3600 / row["videos_per_s"]
        label = " ".join([name, *(f"{k} {v:.4g}" for k, v in told.items())])
        self.rows.append(row)
        self.samples[label] = [sample for samples in runs for sample in samples]
        write(self.options.out, self.told, self.rows, self.samples)
        shown = ("n", "p50_s", "p95_s", "p99_s", "max_s", "failed", "refused", "timeout")
        print(label, *(f"{key} {row[key]}" for key in shown), sep="\t", flush=True)
        return row

    async def closed(self, name: str, concurrency: int, mixed: bool = False) -> dict[str, Any]:
        """A closed loop."""
        count, timeout = self.options.count, self.options.timeout

        async def run(number: int) -> list[Sample]:
            asked = self.orders(count, number, mixed=mixed)
            return await closed(self.http, asked, timeout, concurrency)

        return await self.measure(name, run, self.options.slo, concurrency=concurrency)

    async def repeat(self) -> None:
        """Everything twice in a row, word for word."""
        first: list[float] = []
        second: list[float] = []

        async def run(number: int) -> list[Sample]:
            asked = [
                order for one in self.orders(self.options.count, number) for order in (one, one)
            ]
            taken = await closed(self.http, asked, self.options.timeout, 1)
            for into, half in ((first, taken[::2]), (second, taken[1::2])):
                into += [float("inf") if s.delivered is None else s.delivered for s in half]
            return taken

        row = await self.measure("repeat", run, self.options.slo)
        row |= repeats(first, second)
        write(self.options.out, self.told, self.rows, self.samples)
        print("a cache answers" if row["cached"] else "no cache is seen to answer", flush=True)

    async def timed(
        self, name: str, arrivals: Callable[[int], list[float]], slo: float | None, **told: Any
    ) -> dict[str, Any]:
        """Requests by the clock."""

        async def run(number: int) -> list[Sample]:
            times = arrivals(number)
            asked = self.orders(len(times), number, times)
            return await by_clock(self.http, asked, self.options.timeout)

        return await self.measure(name, run, slo, **told)

    async def open(self) -> None:
        """At the rate that is asked for, or at the highest that keeps the SLO, searched for."""
        count, seed = self.options.count, self.options.seed

        async def at(rate: float, slo: float | None) -> dict[str, Any]:
            def arrivals(number: int) -> list[float]:
                return poisson(rate, count, seed + number)

            return await self.timed("open", arrivals, slo, rate=rate)

        if self.options.rate:
            await at(self.options.rate, self.options.slo)
            return
        alone = await self.closed("single", 1)
        if alone["p50_s"] is None:
            raise SystemExit(f"--count {count}: too few requests for a median; at least 10")
        slo = self.options.slo or 2 * alone["p50_s"]

        async def meets(rate: float) -> bool:
            await at(rate, slo)
            taken = list(self.samples.values())[-1]
            latencies = [float("inf") if s.delivered is None else s.delivered for s in taken]
            found = quantile(latencies, 0.95)
            if found is None:
                raise SystemExit(f"--count {count}: too few requests for a p95; at least 100")
            return bool(found[0] <= slo)

        first = 1 / alone["p50_s"]
        self.told["highest_rate"] = await highest_rate(meets, first / 20, 4 * first, HALVINGS)
        write(self.options.out, self.told, self.rows, self.samples)

    async def scenario(self, name: str) -> None:
        """One of `SCENARIOS`."""
        options = self.options
        if name != "cold" and options.warm_up:
            await self.warm_up()
        if name == "single":
            await self.closed(name, 1)
        elif name in ("closed", "mixed"):
            for concurrency in options.concurrency:
                await self.closed(name, concurrency, mixed=name == "mixed")
        elif name == "open":
            await self.open()
        elif name == "repeat":
            await self.repeat()
        elif name == "offline":
            await self.timed(name, lambda _: [0.0] * options.count, options.slo)
        elif name == "burst":
            for size in options.concurrency:
                times = bursts(size, options.apart, options.count)
                await self.timed(name, lambda _, t=times: t, options.slo, size=size)  # type: ignore[misc]
        else:
            options.runs = 1
            await self.timed(name, lambda _: [0.0], options.slo)


def _mix(text: str) -> list[tuple[Fields, float]]:
    variants = []
    for part in text.split(","):
        form, _, weight = part.partition("=")
        size, _, seconds = form.partition(":")
        fields: Fields = {"size": size, **({"seconds": seconds} if seconds else {})}
        variants.append((fields, float(weight or 1)))
    return variants


def _param(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed is NAME=VALUE")
    return name, value


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = made.add_argument
    add("--base-url", required=True, help="as the openai client takes it, with /v1")
    add("--model")
    add("--scenario", choices=SCENARIOS, action="append", required=True, help="once or more")
    add("--out", type=Path, required=True, help="folder of the report")
    add("--count", type=int, default=100, help="requests of a run; 100 for p95, 500 for p99")
    add("--runs", type=int, default=3)
    add("--warm-up", type=int, default=3, help="requests that do not count")
    add("--concurrency", type=int, action="append", help="in flight, or in a burst; repeatable")
    add("--rate", type=float, help="requests a second; none: the highest that keeps the SLO")
    add("--slo", type=float, help="seconds within which a video is wanted")
    add("--apart", type=float, default=10.0, help="seconds between bursts")
    add("--mix", type=_mix, default=[({}, 1.0)], help="SIZE[:SECONDS][=WEIGHT],...")
    add("--param", type=_param, action="append", default=[], help="NAME=VALUE sent with each")
    add("--prompt", action="append", default=[], help="in place of our own; repeatable")
    add("--fact", type=_param, action="append", default=[], help="NAME=VALUE told of the server")
    add("--scores", type=Path, nargs=2, metavar=("REFERENCE", "MEASURED"), help="physics reports")
    add("--full-steps", type=int, help="steps of the videos to which those measured are compared")
    add("--full-count", type=int, default=8, help="videos that are compared")
    add("--checkpoint", help="the served folder or hub id, for the share of the peak")
    add("--peak-tflops", type=float, help="of the server's device, in the precision it computes in")
    add("--price", type=float, help="of an hour of the server, for the cost of a video")
    add("--seed", type=int, default=0)
    add("--timeout", type=float, default=3600.0, help="seconds after which a video is given up")
    add("--baseline", type=Path, help="an earlier report.json to compare with")
    return made


async def measure(options: argparse.Namespace, **transport: Any) -> Bench:
    """Do what the command line says; `transport` goes to the HTTP client."""
    options.concurrency = options.concurrency or [2, 4, 8]
    url = options.base_url.rstrip("/") + "/"
    key = os.environ.get("OPENAI_API_KEY", "none")
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=url, headers={"authorization": f"Bearer {key}"}, limits=limits, timeout=60,
        **transport,
    ) as http:  # fmt: skip
        bench = Bench(http, options)
        bench.told |= {"client": environment()}
        if options.full_steps:
            await bench.compare_with_full_steps()
        for name in options.scenario:
            await bench.scenario(name)
    return bench


def main() -> None:
    """Measure, write the report, and compare it with an earlier one."""
    options = parser().parse_args()
    before = json.loads(options.baseline.read_text()) if options.baseline else None
    asyncio.run(measure(options))
    if before is not None:
        now = json.loads((options.out / "report.json").read_text())
        worse = regressions(now, before)
        print(*worse, *wins(now, before), sep="\n")
        sys.exit(bool(worse))


if __name__ == "__main__":
    main()
