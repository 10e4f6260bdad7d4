"""Without a GPU a dry run goes through the code of every row; cut off, its report is whole."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu

WHAT = {"peaks", "kernels", "step", "attention", "training", "packed", "decoding"}
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a dry run is without a GPU")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own tracing
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated")
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # diffusers' norms
def test_a_dry_run_has_every_row_and_no_error(tmp_path: Path) -> None:
    """bf16 steps of two tiny networks of the same weights: 2 % apart at most; kernels by fp32."""
    gpu.measure(gpu.Bench(tmp_path, 10.0))
    report = json.loads((tmp_path / "report.json").read_text())
    rows: list[dict[str, Any]] = report["rows"]
    assert [row for row in rows if "error" in row] == []
    assert {row["what"] for row in rows} == WHAT and report["dry"]
    steps = [row for row in rows if row["what"] == "step"]
    assert len(steps) == 6 and all(0 < row["apart"] <= 0.02 and row["ratio"] > 0 for row in steps)
    assert all(row["apart"] <= 3e-6 for row in rows if row["what"] == "kernels")
    page = (tmp_path / "report.md").read_text()
    assert "figures mean nothing" in page and page.count("\n| ") == len(rows) + 1


def test_what_fails_is_a_row_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: gpu.Bench) -> Iterator[dict[str, Any]]:
        yield {"case": "first", "tflops": 1.0}
        raise torch.OutOfMemoryError("too large")

    both = lambda bench: iter([("peaks", broken(bench)), ("kernels", gpu.kernel_checks(bench))])  # noqa: E731
    monkeypatch.setattr(gpu, "sections", both)
    gpu.measure(gpu.Bench(tmp_path, 1.0))
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert [row.get("error") for row in rows] == [None, "OutOfMemoryError: too large", None, None]


def test_no_row_is_begun_when_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, begun = gpu.Bench(tmp_path, 1.0), []

    def slow(_: gpu.Bench) -> Iterator[dict[str, Any]]:
        for n in range(3):
            begun.append(n)
            bench.end = time.monotonic() - 1
            yield {"case": str(n)}

    monkeypatch.setattr(gpu, "sections", lambda b: iter([("peaks", slow(b)), ("step", slow(b))]))
    gpu.measure(bench)
    assert begun == [0] and len(json.loads((tmp_path / "report.json").read_text())["rows"]) == 1
