"""Whether what is made faster is as good: no setting is a win that may have lost a point."""

import asyncio
import json
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from scipy.stats import bootstrap

from benchmarks.latency.client import Order, ask
from model.video import read_video

MOST_LOST = 0.01
"""Share of PCS that a faster setting may have lost, at the 95 % bound: a point of a hundred."""


async def fidelity(
    http: httpx.AsyncClient, orders: Sequence[Order], steps: int, timeout: float
) -> dict[str, Any]:
    """PSNR in dB of videos against those of the same prompts and seeds with `steps` steps.

    Returns:
        `psnr_db`, the mean over videos, with its 95 % interval `psnr_low` and `psnr_high`; infinite
        ones, of equal videos, count as 100.
    """
    found = []
    for order in orders:
        more = Order(0.0, order.fields | {"num_inference_steps": steps})
        pair = [await _frames(http, one, timeout) for one in (order, more)]
        found.append(psnr(*pair))
    row: dict[str, Any] = {"psnr_db": round(float(np.mean(found)), 2), "psnr_n": len(found)}
    if len(found) > 1:
        ends = bootstrap(
            (np.array(found),), np.mean, method="percentile", rng=np.random.default_rng(0)
        ).confidence_interval
        row |= {"psnr_low": round(float(ends.low), 2), "psnr_high": round(float(ends.high), 2)}
    return row


async def _frames(http: httpx.AsyncClient, order: Order, timeout: float) -> Any:
    content = bytearray()
    now = asyncio.get_running_loop().time()
    sample = await ask(http, order, now, timeout, content)
    if sample.outcome != "completed":
        raise SystemExit(f"the reference video for {sample.prompt!r}: {sample.outcome}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        path.write_bytes(content)
        return read_video(path)[0]


def psnr(a: Any, b: Any) -> float:
    """Of two videos `(T, H, W, 3)` uint8 of one shape, in dB, at most 100."""
    if a.shape != b.shape:
        raise ValueError(f"videos are of shapes {a.shape} and {b.shape}; allowed is one shape")
    error = float(np.mean((a.astype(float) - b.astype(float)) ** 2))
    return min(100.0, 10 * math.log10(255**2 / error)) if error else 100.0


def physics(reference: Path, measured: Path) -> dict[str, Any]:
    """What `benchmarks.physics` says of two runs over the same prompts and seeds.

    Returns:
        `pcs`, the measured run's; `pcs_change` with its 95 % interval `pcs_low` and `pcs_high`;
        `kept`, whether that interval excludes a loss of more than a point.
    """
    from benchmarks.physics.run import compare_reports

    found = compare_reports(
        *(json.loads(path.read_text("utf-8")) for path in (reference, measured))
    )
    low, high = found.interval
    row = {"pcs": found.b, "pcs_change": found.difference, "pcs_low": low, "pcs_high": high}
    rounded: dict[str, Any] = {name: round(float(value), 4) for name, value in row.items()}
    return rounded | {"kept": bool(low >= -MOST_LOST)}
