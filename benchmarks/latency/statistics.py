"""Percentiles with the intervals that their sample allows, and a verdict between two reports."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import binom, bootstrap

from benchmarks.latency.client import Sample

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
DEADLINES = (5, 10, 30)
"""Seconds within which the share that was delivered is always told."""
BEYOND = 5
"""Samples that must lie beyond a percentile for it to be told: 100 for p95, 500 for p99."""
SLOWER, SIGMAS = 0.05, 3.0
"""A median is worse than before if it is longer by this share and by so many standard errors."""


def quantile(values: Sequence[float], q: float) -> tuple[float, float, float] | None:
    """A quantile and its 95 % interval by order statistics; None where the sample is too small.

    The interval is exact for any distribution (H. A. David, Order Statistics, 1981, §2.5).
    """
    n = len(values)
    if n * (1 - q) < BEYOND - 1e-9:
        return None
    ordered = np.sort(values)
    low = max(int(binom.ppf(0.025, n, q)) - 1, 0)
    high = min(int(binom.ppf(0.975, n, q)), n - 1)
    lower, upper = math.floor(q * (n - 1)), math.ceil(q * (n - 1))
    part = q * (n - 1) - lower  # by hand: numpy makes NaN of two infinities
    middle = ordered[lower] if part == 0 else ordered[lower] * (1 - part) + ordered[upper] * part
    return float(middle), float(ordered[low]), float(ordered[high])


def finite(x: float | None) -> float | None:
    """A number that JSON has, rounded to 0.1 ms."""
    return None if x is None or not math.isfinite(x) else round(x, 4)


def summary(
    scenario: str, runs: Sequence[Sequence[Sample]], slo: float | None = None, **told: Any
) -> dict[str, Any]:
    """One row of the report: delivered latency of all runs together, and what goes with it.

    What was not delivered counts as never: it lengthens every percentile beyond which it lies, and
    one that is infinite is null.
    """
    samples = [sample for run in runs for sample in run]
    latencies = [math.inf if s.delivered is None else s.delivered for s in samples]
    done = [sample for sample in samples if sample.outcome == "completed"]
    row: dict[str, Any] = {"scenario": scenario, **told, "n": len(samples)}
    row |= {k: sum(s.outcome == k for s in samples) for k in ("failed", "refused", "timeout")}
    for name, q in QUANTILES.items():
        found = quantile(latencies, q) or (None, None, None)
        ends = zip(("s", "low", "high"), found, strict=True)
        row |= {f"{name}_{end}": finite(value) for end, value in ends}
    kept = [s.delivered for s in done if s.delivered is not None]
    row |= {"max_s": finite(max(latencies, default=math.inf))}
    row |= {"mean_s": finite(_mean(kept)), "std_s": finite(float(np.std(kept)) if kept else None)}
    medians = [quantile([s.delivered or math.inf for s in run], 0.5) for run in runs]
    told_medians = [median[0] for median in medians if median]
    if len(told_medians) > 1:
        row["p50_spread"] = finite((max(told_medians) - min(told_medians)) / min(told_medians))
    row |= _work(done, runs)
    for seconds in DEADLINES:
        within = sum(latency <= seconds for latency in latencies)
        row[f"goodput_{seconds}s"] = finite(within / max(len(samples), 1))
    if slo is not None:
        within = sum(latency <= slo for latency in latencies)
        row |= {"slo_s": finite(slo), "goodput": finite(within / max(len(samples), 1))}
    return row


def _work(done: Sequence[Sample], runs: Sequence[Sequence[Sample]]) -> dict[str, float | None]:
    """What the server did for it: waiting, speed, and by how much polling may be off."""
    generation = [s.generation for s in done if s.generation is not None]
    queued = [s.queued for s in done if s.queued is not None]
    wall = sum(max((s.last_byte or s.sent for s in run), default=0.0) for run in runs)
    steps = [s.timings["denoise"] / s.steps for s in done if s.steps and "denoise" in s.timings]
    pace = [
        (s.generation - (s.queued or 0)) / s.seconds for s in done if s.generation and s.seconds
    ]
    frames = sum(s.frames or 0 for s in done)
    return {
        "generation_p50_s": finite(_median(generation)),
        "queue_share": finite(sum(queued) / sum(generation) if sum(generation) else None),
        "videos_per_s": finite(len(done) / wall if wall else None),
        "frames_per_s": finite(frames / wall if wall and frames else None),
        "seconds_per_video_second": finite(_median(pace)),
        "step_p50_s": finite(_median(steps)),
        "step_p95_s": finite((quantile(steps, 0.95) or [None])[0]),
        "poll_s": finite(_median([s.poll for s in done])),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def stages(samples: Sequence[Sample]) -> dict[str, float]:
    """Mean seconds of what a delivered video went through, in order."""
    done = [s for s in samples if s.outcome == "completed"]
    if not done:
        return {}
    found = {"queued": _mean([s.queued or 0.0 for s in done]) or 0.0}
    names = dict.fromkeys(name for s in done for name in s.timings)
    found |= {name: float(np.mean([s.timings.get(name, 0.0) for s in done])) for name in names}
    whole = float(np.mean([s.generation or 0.0 for s in done]))
    found["other"] = max(0.0, whole - sum(found.values()))
    fetch = [s.last_byte - s.completed for s in done if s.last_byte and s.completed]
    return found | {"download": _mean(fetch) or 0.0}


def repeats(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """What asking for the same once more saves: seconds, their 95 % interval over pairs, a verdict.

    A cache answers if the interval is above 0 and the median shorter by more than 5 %.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if math.isfinite(a + b)]
    if len(pairs) < 2:
        return {"repeat_saves_s": None, "cached": None}
    ours, theirs = np.array(pairs).T
    saved = _between_medians(ours, theirs)
    low, high = saved.confidence_interval
    change = float(np.median(ours) - np.median(theirs))
    told = {"repeat_saves_s": change, "repeat_low": float(low), "repeat_high": float(high)}
    cached = low > 0 and change > SLOWER * float(np.median(ours))
    return {name: finite(value) for name, value in told.items()} | {"cached": bool(cached)}


def _between_medians(a: Any, b: Any) -> Any:
    """Bootstrap over pairs of the difference of two medians."""
    return bootstrap(
        (a, b), lambda x, y, axis: np.median(x, axis) - np.median(y, axis),
        paired=True, vectorized=True, method="percentile", rng=np.random.default_rng(0),
    )  # fmt: skip


def regressions(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Scenarios of two reports whose median is longer than before; same prompts are paired."""
    return _changes(now, before, 1)


def wins(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Scenarios whose median is shorter, and whether that is a win: by the quality of `now`."""
    kept = {row.get("kept") for row in now["rows"]}
    word = {True: "a win", False: "no win: a point of PCS may be lost"}
    verdict = word.get(kept.pop(), "no win: quality unknown") if len(kept) == 1 else "no win"
    return [f"{found}; {verdict}" for found in _changes(now, before, -1)]


def _changes(now: dict[str, Any], before: dict[str, Any], sign: int) -> list[str]:
    found = []
    for name, prompts in now["latencies"].items():
        old = before["latencies"].get(name, {})
        pairs = [(seconds, old[prompt]) for prompt, seconds in prompts.items() if prompt in old]
        pairs = [(a, b) for a, b in pairs if a is not None and b is not None]
        if len(pairs) < 2:
            continue
        ours, theirs = np.array(pairs).T
        change = sign * float(np.median(ours) - np.median(theirs))
        error = _between_medians(ours, theirs).standard_error
        if change > SLOWER * float(np.median(theirs)) and change > SIGMAS * error:
            share = change / float(np.median(theirs))
            way = "longer" if sign > 0 else "shorter"
            found.append(f"{name}: the median of {len(pairs)} prompts is {share:.1%} {way}")
    return found
