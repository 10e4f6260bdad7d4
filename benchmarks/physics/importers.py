"""Prompt lists of other suites, read from a local copy of their files."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyarrow import parquet

from benchmarks.physics.cases import Case

Fields = dict[str, Any]


def physics_iq(path: Path) -> list[Case]:
    """Physics-IQ's `descriptions/*.csv`: a case a camera view, so three of each scenario.

    Of the two takes the second is left out: it says how much two recordings differ, and no video is
    generated for it.
    """
    with path.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    _check(path, table, ("scenario", "description", "category", "generated_video_name"))
    return [
        Case(row["generated_video_name"].removesuffix(".mp4"), row["category"], row["description"])
        for row in table
        if "_take-2_" not in row["scenario"]
    ]


def vbench_2(path: Path) -> list[Case]:
    """VBench-2.0's `VBench2_full_info.json`, or the file of one dimension in `meta_info`.

    A prompt of several dimensions is a case of each. Its questions, where it has any that are
    answered by yes or no, are asked as they are.
    """
    table = json.loads(path.read_text("utf-8"))
    _check(path, table, ("prompt_en", "dimension"))
    cases, numbers = [], dict[str, int]()
    for row in table:
        dimensions = row["dimension"]
        for dimension in [dimensions] if isinstance(dimensions, str) else dimensions:
            number = numbers[dimension] = numbers.get(dimension, -1) + 1
            asked = tuple(_yes_or_no(row.get("auxiliary_info")))
            cases.append(Case(f"{dimension}-{number:03d}", dimension, row["prompt_en"], asked))
    return cases


def _yes_or_no(info: object) -> list[Fields]:
    ending = "(yes or no)"
    lines = [text for text in info if isinstance(text, str)] if isinstance(info, list) else []
    asked = [text.removesuffix(ending).strip() for text in lines if text.endswith(ending)]
    return [{"question": text, "expect": "yes"} for text in asked]


def videoscience(path: Path) -> list[Case]:
    """VideoScience-Bench's JSON lines (`data_filtered.jsonl`), or its data set's Parquet file."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path).to_pylist()
    else:
        table = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    _check(path, table, ("prompt", "expected phenomenon", "field", "vid"))
    return [
        Case(
            f"vid_{int(row['vid']):03d}",
            row["field"],
            row["prompt"],
            ({"outcome": row["expected phenomenon"]},),
        )
        for row in table
    ]


SUITES: dict[str, Callable[[Path], list[Case]]] = {
    "physics-iq": physics_iq,
    "vbench-2": vbench_2,
    "videoscience": videoscience,
}


def _check(path: Path, table: list[Fields], needed: tuple[str, ...]) -> None:
    if not table:
        raise ValueError(f"{path} has no prompts")
    for number, row in enumerate(table, 1):
        if missing := [name for name in needed if name not in row]:
            raise ValueError(f"{path}: entry {number} has no {missing[0]!r}; this is another file")
