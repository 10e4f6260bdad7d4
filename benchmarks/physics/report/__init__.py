"""A report: everything that was measured, as JSON, as a table, and as one page to look at."""

import csv
import json
import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from benchmarks.physics.grading import Graded
from benchmarks.physics.l1 import UNITS
from benchmarks.physics.report import trust
from benchmarks.physics.scores import Outcome, by_family, score

SCHEMA = 1
ROOT = Path(__file__).parents[3]
Fields = dict[str, Any]


def build(
    level: str,
    digest: str,
    graded: Sequence[Graded],
    source: Fields,
    baselines: Mapping[str, Sequence[Graded]],
    validation: Fields | None,
    judges: Sequence[Fields] = (),
    able: frozenset[str] = frozenset(),
) -> Fields:
    """The report of a run as JSON; numbers that are infinite become null.

    `able` names the families that may be scored: none for diagnostics, and only those in which
    the judge is believed where one is asked.
    """
    outcomes = [item.outcome for item in graded]
    counted = [o for o in outcomes if o.family in able]
    report: Fields = {
        "schema": SCHEMA,
        "level": level,
        "suite_digest": digest,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": source,
        "host": host(),
        "totals": totals(counted or outcomes, bool(counted)),
        "families": families(counted or outcomes, bool(counted)),
        "baselines": [
            {"name": name, **totals([item.outcome for item in rows])}
            | {"families": families([item.outcome for item in rows])}
            for name, rows in baselines.items()
        ],
        "validation": trust.summary(validation) if validation else None,
        "judges": list(judges),
        "cases": [_case(item) for item in graded],
    }
    if level == "l1":
        report["diagnostics"] = diagnostics(outcomes)
    cleaned: Fields = finite(report)
    return cleaned


def totals(outcomes: Sequence[Outcome], scored: bool = True) -> Fields:
    """What all clips add up to; there is no PCS where nothing passes or fails."""
    fields = asdict(score(outcomes))
    del fields["families"]
    if not scored:
        del fields["pcs"], fields["interval"]
    return fields


def families(outcomes: Sequence[Outcome], scored: bool = True) -> list[Fields]:
    """Each family's rates, and the median of each error over its clips."""
    table = []
    scores = score(outcomes).families
    for name, rows in by_family(outcomes).items():
        fields = {"name": name, **asdict(scores[name]), "errors": _medians(rows)}
        if not scored:
            for rate in ("pcs", "interval", "semantic", "physics"):
                del fields[rate]
        table.append(fields)
    return table


def _medians(outcomes: Sequence[Outcome]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for outcome in outcomes:
        for name, value in outcome.errors.items():
            values.setdefault(name, []).append(value)
    return {name: float(np.median(found)) for name, found in sorted(values.items())}


def diagnostics(outcomes: Sequence[Outcome]) -> list[Fields]:
    """Median and quartiles of each L1 diagnostic over the clips that have it."""
    table = []
    for name, unit in UNITS.items():
        found = [o.errors[name] for o in outcomes if name in o.errors]
        if found:
            low, middle, high = np.quantile(found, [0.25, 0.5, 0.75]).tolist()
            table.append(
                {"name": name, "unit": unit, "clips": len(found)}
                | {"median": middle, "quartiles": [low, high]}
            )
    return table


def _case(item: Graded) -> Fields:
    clip, outcome = item.clip, item.outcome
    return {
        "case_id": clip.case.case_id,
        "family": clip.case.family,
        "prompt": clip.case.prompt,
        "repeat": clip.repeat,
        "seed": clip.seed,
        "file": clip.path.name if clip.path else None,
        "sha256": item.sha,
        "status": outcome.status,
        "measurable": outcome.measurable,
        "semantic": outcome.semantic,
        "physics": outcome.physics,
        "passed": outcome.passed,
        "errors": outcome.errors,
        **item.details,
    }


def finite(value: Any) -> Any:
    """JSON with null for what is infinite or no number."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def redacted(base_url: str) -> str:
    """A URL without user, password and query."""
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def host() -> Fields:
    """The machine that graded, and the commit."""
    git = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "commit": git.stdout.strip() or None,
    }


def write_json(report: Fields, path: Path) -> None:
    """Write the report whole, or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(part, path)


def write_csv(report: Fields, path: Path) -> None:
    """Write a line a clip, a column an error."""
    names = sorted({name for case in report["cases"] for name in case["errors"]})
    columns = [
        *("case_id", "family", "prompt", "repeat", "seed", "file", "sha256", "status"),
        *("measurable", "semantic", "physics", "passed", "reason"),
    ]
    part = path.with_name(f".{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns + names)
        for case in report["cases"]:
            fields = [case.get(name, "") for name in columns]
            writer.writerow(fields + [case["errors"].get(name, "") for name in names])
    os.replace(part, path)
