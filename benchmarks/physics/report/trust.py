"""What a report of `validate` says of the detectors, for the page."""

import json
from pathlib import Path
from typing import Any

from markupsafe import Markup

from benchmarks.physics.detectors.thresholds import digest
from benchmarks.physics.report import charts
from world.corruptions import CORRUPTIONS

Fields = dict[str, Any]
COMMITTED = Path(__file__).parents[3] / "docs" / "results" / "physics"


def committed() -> Fields | None:
    """The largest validation in docs/results of the bounds that judge now, if there is one."""
    reports = [json.loads(path.read_text("utf-8")) for path in COMMITTED.glob("*/report.json")]
    current = [found for found in reports if found.get("thresholds_sha256") == digest()]
    return max(current, key=lambda found: len(found["corruptions"]), default=None)


def check(found: Fields) -> None:
    """Raises `ValueError` if a validation is of other bounds than those that judge now."""
    if found["thresholds_sha256"] != digest():
        raise ValueError(
            f"the validation is of bounds {found['thresholds_sha256'][:12]}, but bounds "
            f"{digest()[:12]} judge now; validate anew"
        )


def summary(found: Fields) -> Fields:
    """The part that a report keeps."""
    return {
        "thresholds_sha256": found["thresholds_sha256"],
        "gates": len(found["gates"]),
        "fallen": [gate["name"] for gate in found["gates"] if not gate["passed"]],
        "detectors": found["detectors"],
    }


def shown(found: Fields) -> Fields:
    """The part that a page shows: gates, detectors, psychometric curves, specificity matrix."""
    return {**summary(found), "all": found["gates"]} | {
        "curves": _curves(found["corruptions"]),
        "matrix": _matrix(found["corruptions"]),
    }


def _curves(rows: list[Fields]) -> list[Markup]:
    points: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        name = f"{row['family']}: {row['corruption']}".replace("_", " ")
        points.setdefault(name, []).append((row["value"], row["caught"] / max(row["clips"], 1)))
    return [charts.curve(sorted(p), name) for name, p in sorted(points.items()) if len(p) > 1]


def _matrix(rows: list[Fields]) -> Fields:
    nominal = [row for row in rows if row["value"] == CORRUPTIONS[row["corruption"]].nominal]
    columns = sorted({name for row in nominal for name in row["fired"]})
    return {
        "columns": columns,
        "rows": [
            (
                f"{row['family']}: {row['corruption']}".replace("_", " "),
                [row["fired"].get(name, 0) / max(row["clips"], 1) for name in columns],
            )
            for row in nominal
        ],
    }
