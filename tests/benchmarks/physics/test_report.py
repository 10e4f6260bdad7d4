"""What a page shows: failures that matter, frames that prove them, numbers in their place."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.physics.cases import Case, Clip
from benchmarks.physics.detectors.thresholds import digest
from benchmarks.physics.grading import Graded
from benchmarks.physics.report import charts, finite, redacted, sheets, trust
from benchmarks.physics.scores import Outcome
from world.corruptions import CORRUPTIONS


def graded(family: str, error: float, passed: bool = False, number: int = 0) -> Graded:
    case = Case(f"{family}-{number}", family, "p")
    outcome = Outcome(case.case_id, family, 0, "graded", True, True, passed, {"K2": error})
    return Graded(Clip(case, 0, 0, Path("x.mp4")), outcome, "sha", {"evidence_frames": [3]})


def test_the_worst_of_each_family_come_in_turn() -> None:
    rows = [graded("a", 2.0), graded("a", 9.0, number=1), graded("a", 1.5, number=2)]
    rows += [graded("b", 3.0), graded("b", 0.5, passed=True, number=1)]
    found = [(item.outcome.family, item.outcome.errors["K2"]) for item in sheets.worst(rows)]
    assert found == [("a", 9.0), ("b", 3.0), ("a", 2.0), ("a", 1.5)]
    assert len(sheets.worst(rows, 2)) == 2


def test_a_failure_is_said_in_words_and_numbers() -> None:
    assert sheets.failing_number(graded("a", 3.42)) == "gravity (K2) 3.4 times its bound"
    assert sheets.failing_number(graded("a", math.inf)) == "gravity (K2) finds nothing"
    assert sheets.failing_number(graded("a", 1.02)) == "gravity (K2) just over its bound"
    assert sheets.failing_number(graded("a", 0.9, passed=True)) == "passes"


@pytest.mark.parametrize("evidence", [[], [1], [5, 9, 11], [16]])
def test_frames_that_show_the_fault_are_among_the_twelve(evidence: list[int]) -> None:
    chosen = sheets.choose(17, evidence)
    assert set(evidence) <= set(chosen) and len(chosen) == 12 and chosen == sorted(chosen)
    assert sheets.choose(5, []) == [0, 1, 2, 3, 4]


def numbers(svg: str, pattern: str) -> list[float]:
    return [float(value) for value in re.findall(pattern, svg)]


def test_bars_are_as_long_as_their_rates_and_names_are_escaped() -> None:
    """Full scale is 190 units, from 128 on."""
    svg = charts.bars([("<a>", 0.5, 0.25, 1.0), ("b", 0.0, 0.0, 0.3)], "families")
    assert numbers(svg, r"<rect[^>]*width='([\d.]+)'") == [95.0, 0.5]
    assert "M175.5 " in svg and "H318.0" in svg and "&lt;a&gt;" in svg


def test_a_curve_and_a_histogram_put_their_points_where_they_belong() -> None:
    svg = charts.curve([(1, 0.0), (2, 0.5), (4, 1.0)], "k")
    assert "30.0,70.0 73.3,40.0 160.0,10.0" in svg
    svg = charts.histogram([0.0, 0.1, 1.0, 1.5, math.inf], "K2")
    heights = numbers(svg, r"height='([\d.]+)' fill")
    assert [index for index, height in enumerate(heights) if height] == [0, 4, 7, 10]
    assert heights[0] == 2 * heights[4] == 40.0


def validation(sha: str) -> dict[str, Any]:
    nominal = CORRUPTIONS["hover"].nominal
    rows = [
        {"family": "drop", "corruption": "hover", "value": value, "clips": 10,
         "caught": caught, "fired": {"K2": caught, "O1": 1}}
        for value, caught in ((nominal, 9), (1.0, 2))
    ]  # fmt: skip
    gates = [{"name": "g", "value": 1.0, "bound": 0.9, "passed": True, "clips": 9},
             {"name": "h", "value": 0.5, "bound": 0.9, "passed": False, "clips": 9}]  # fmt: skip
    return {"thresholds_sha256": sha, "gates": gates, "detectors": [], "corruptions": rows}


def test_a_validation_is_shown_only_of_the_bounds_that_judge() -> None:
    found = validation(digest())
    trust.check(found)
    with pytest.raises(ValueError, match="validate anew"):
        trust.check(validation("0" * 64))
    shown = trust.shown(found)
    assert shown["fallen"] == ["h"] and shown["gates"] == 2
    assert shown["matrix"] == {"columns": ["K2", "O1"], "rows": [("drop: hover", [0.9, 0.1])]}
    (curve,) = shown["curves"]
    assert "drop: hover" in curve and "58.0" in curve  # 1.0 is caught 2 times in 10: 70 - 0.2 x 60


def test_json_holds_no_infinity_and_no_secret() -> None:
    assert json.dumps(finite({"a": [math.inf, 1.0, (math.nan,)]})) == '{"a": [null, 1.0, [null]]}'
    assert redacted("https://me:key@host:1/v1?token=x") == "https://host:1/v1"
