"""Every figure of docs/performance.md that was measured here is what its results file holds.

A figure is a link, `[60.9](results/service.json#/rows/1/p50_ms)`, with a JSON pointer (RFC 6901).
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "performance.md").read_text()
FIGURE = re.compile(r"\[([^\]]+)\]\((results/[^)#]+)#(/[^)]+)\)")


def held(file: str, pointer: str, docs: Path = DOCS) -> Any:
    """What a results file holds at a pointer."""
    value = json.loads((docs / file).read_text())
    for key in pointer.strip("/").split("/"):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return value


def wrong(page: str, docs: Path = DOCS) -> list[str]:
    """The figures that are not their file's, rounded to as many digits as are shown."""
    found = []
    for shown, file, pointer in FIGURE.findall(page):
        digits = len(shown.partition(".")[2])
        if f"{held(file, pointer, docs):.{digits}f}" != shown:
            found.append(shown)
    return found


def test_figures_agree_with_their_files() -> None:
    assert FIGURE.findall(PAGE) and wrong(PAGE) == []


def test_a_figure_that_is_off_by_its_last_digit_is_found(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.json").write_text('{"rows": [{"ratio": 1.2349}]}')
    link = "[{}](results/x.json#/rows/0/ratio)"
    assert wrong(link.format("1.235") + " " + link.format("1.23"), tmp_path) == []
    assert wrong(link.format("1.24"), tmp_path) == ["1.24"]


@pytest.mark.parametrize("file", sorted({file for _, file, _ in FIGURE.findall(PAGE)}))
def test_a_results_file_says_what_it_was_measured_with(file: str) -> None:
    told = json.loads((DOCS / file).read_text())["environment"]
    assert re.fullmatch(r"[0-9a-f]{40}", told["commit"]) and told["versions"]


def test_bars_are_those_that_the_core_is_held_to() -> None:
    cases = yaml.safe_load((DOCS.parent / "benchmarks" / "core.yaml").read_text())
    bars = [case["bar"] for part in ("loop", "pipeline") for case in cases[part] if "bar" in case]
    shown = re.findall(r"^\|[^|]*\| (1\.\d\d) \|", PAGE.split("## A training step")[0], re.M)
    assert sorted(map(float, shown)) == sorted(bars)
