"""The report as one page that needs nothing else: no script, no font, no request."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from benchmarks.physics.grading import Graded
from benchmarks.physics.report import charts, sheets, trust

Fields = dict[str, Any]

LEVELS = {
    "l0": "Level 0: prompts of the procedural world, judged by detectors that read pixels.",
    "l1": "Level 1: diagnostics that need no weights.",
    "l2": "Level 2: questions put to a judge that sees.",
}


def write_page(
    report: Fields, graded: Sequence[Graded], name: str, validation: Fields | None, path: Path
) -> None:
    """Write `report.html` whole, or not at all."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scored = "pcs" in report["totals"]
    page = environment.get_template("report.html.j2").render(
        report=report | {"diagnostics": report.get("diagnostics")},
        name=name,
        levels=LEVELS,
        names=sheets.NAMES,
        bars=_bars(report) if scored else None,
        radar=_radar(report, name) if scored and len(report["families"]) > 2 else None,
        failures=_figures(sheets.worst(graded)) if scored else [],
        examples=_figures(sheets.best_and_median(graded)) if report["level"] == "l0" else [],
        histograms=_histograms(graded) if report["level"] == "l0" else [],
        validation=trust.shown(validation) if validation else None,
    )
    part = path.with_name(f".{path.name}.part")
    part.write_text(page, "utf-8")
    os.replace(part, path)


def _bars(report: Fields) -> Markup:
    totals = {"name": "all", **report["totals"]}
    rows = [
        (f["name"].replace("_", " "), f["pcs"], *f["interval"])
        for f in (totals, *report["families"])
    ]
    return charts.bars(rows, "families and their intervals")


def _radar(report: Fields, name: str) -> Markup:
    names = [family["name"] for family in report["families"]]
    series = {name: [family["pcs"] for family in report["families"]]}
    for baseline in report["baselines"][:2]:
        found = {family["name"]: family["pcs"] for family in baseline["families"]}
        series[baseline["name"]] = [found.get(family, 0.0) for family in names]
    return charts.radar([n.replace("_", " ") for n in names], series, "families")


def _histograms(graded: Sequence[Graded]) -> list[Markup]:
    errors: dict[str, list[float]] = {}
    for item in graded:
        for detector, value in item.outcome.errors.items():
            errors.setdefault(detector, []).append(value)
    return [charts.histogram(values, detector) for detector, values in sorted(errors.items())]


def _figures(graded: Sequence[Graded]) -> list[dict[str, str]]:
    return [
        {
            "uri": sheets.data_uri(sheets.sheet(item)),
            "prompt": item.clip.case.prompt,
            "case": f"{item.clip.case.case_id}, repeat {item.clip.repeat}",
            "number": sheets.failing_number(item),
        }
        for item in graded
    ]
