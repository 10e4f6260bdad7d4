"""The report: JSON for programs, CSV for tables, and one HTML page that needs nothing else."""

import csv
import html
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.latency.client import Sample
from benchmarks.latency.statistics import finite, stages

COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#97bbf5", "#9c6b4e")
WIDTH, HEIGHT, MARGIN = 640, 300, 48

Series = dict[str, list[tuple[float, float]]]


def write(
    folder: Path, told: dict[str, Any], rows: list[dict[str, Any]], samples: dict[str, list[Sample]]
) -> dict[str, Any]:
    """Write `report.json`, `samples.csv` and `report.html`; gives the report."""
    folder.mkdir(parents=True, exist_ok=True)
    latencies = {
        name: {sample.prompt: finite(sample.delivered) for sample in taken}
        for name, taken in samples.items()
    }
    report = {**told, "rows": rows, "latencies": latencies}
    _replace(folder / "report.json", json.dumps(report, indent=1) + "\n")
    with (folder / "samples.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        names = ["scenario", *Sample.__dataclass_fields__, "delivered", "generation", "queued"]
        writer.writerow(names)
        for scenario, taken in samples.items():
            for s in taken:
                values = {**asdict(s), "delivered": s.delivered, "generation": s.generation}
                values |= {"scenario": scenario, "queued": s.queued}
                writer.writerow([values[name] for name in names])
    _replace(folder / "report.html", page(report, samples))
    return report


def _replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(text)
    beside.rename(path)


def page(report: dict[str, Any], samples: dict[str, list[Sample]]) -> str:
    """The report as one HTML page."""
    rows = report["rows"]
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{_cell(row.get(name))}</td>" for name in names) + "</tr>"
        for row in rows
    )
    told = "".join(
        f"<dt>{html.escape(k)}</dt><dd>{html.escape(json.dumps(v))}</dd>"
        for k, v in report.items()
        if k not in ("rows", "latencies")
    )
    cdf = {name: distribution(taken) for name, taken in samples.items()}
    rates: Series = {}
    for row in rows:
        for name in ("p50_s", "p95_s"):
            if row.get("rate") and row.get(name):
                rates.setdefault(name, []).append((row["rate"], row[name]))
    charts = [chart("Share delivered within seconds", cdf, "s")]
    if rates:
        charts.append(chart("Seconds by requests a second", rates, "1/s"))
    charts.append(waterfall({name: stages(taken) for name, taken in samples.items()}))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Latency</title><style>'
        "body{font:14px sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse}"
        "td,th{padding:.2em .6em;border-bottom:1px solid #ccc;text-align:right}"
        "div{overflow-x:auto}dt{font-weight:bold}</style><h1>Latency</h1>"
        f"<dl>{told}</dl><div><table><tr>{head}</tr>{body}</table></div>{''.join(charts)}</html>\n"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def distribution(taken: Sequence[Sample]) -> list[tuple[float, float]]:
    """Points (seconds, share delivered within them) of all samples, delivered or not."""
    ordered = sorted(s.delivered for s in taken if s.delivered is not None)
    return [(seconds, (n + 1) / len(taken)) for n, seconds in enumerate(ordered)]


def chart(title: str, series: Series, unit: str) -> str:
    """Lines through points, as SVG; both axes begin at 0."""
    points = [point for line in series.values() for point in line]
    right = max((x for x, _ in points), default=0) or 1.0
    top = max((y for _, y in points), default=0) or 1.0
    x0, y0 = MARGIN, HEIGHT - MARGIN
    across, up = (WIDTH - 2 * MARGIN) / right, (HEIGHT - 2 * MARGIN) / top
    drawn = [f'<path d="M{x0} {MARGIN}V{y0}H{WIDTH - MARGIN}" fill="none" stroke="#888"/>']
    for part in (0.25, 0.5, 0.75, 1):
        x, y = x0 + part * right * across, y0 - part * top * up
        drawn.append(f'<text x="{x:.0f}" y="{y0 + 16}">{part * right:.3g}{unit}</text>')
        drawn.append(f'<text x="4" y="{y:.0f}">{part * top:.3g}</text>')
    for n, (name, line) in enumerate(series.items()):
        colour = COLOURS[n % len(COLOURS)]
        path = " ".join(f"{x0 + x * across:.1f},{y0 - y * up:.1f}" for x, y in line)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        legend = f'<text x="{WIDTH - 150}" y="{MARGIN + 16 * n}" fill="{colour}">'
        drawn.append(f"{legend}{html.escape(name)}</text>")
    return _figure(title, drawn, HEIGHT)


def waterfall(found: dict[str, dict[str, float]]) -> str:
    """Mean seconds of each stage, one scenario a bar, as SVG."""
    longest = max((sum(parts.values()) for parts in found.values()), default=0) or 1.0
    names = list(dict.fromkeys(name for parts in found.values() for name in parts))
    drawn = []
    for n, (scenario, parts) in enumerate(found.items()):
        x, y = 140.0, 20 + 26 * n
        drawn.append(f'<text x="4" y="{y + 14}">{html.escape(scenario)}</text>')
        for name, seconds in parts.items():
            wide = seconds / longest * (WIDTH - 150)
            colour = COLOURS[names.index(name) % len(COLOURS)]
            title = f"<title>{html.escape(name)} {seconds:.3f} s</title>"
            box = f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="20" fill="{colour}">'
            drawn.append(f"{box}{title}</rect>")
            x += wide
    y = 40 + 26 * len(found)
    for n, name in enumerate(names):
        colour = COLOURS[n % len(COLOURS)]
        drawn.append(f'<text x="{4 + 90 * n}" y="{y}" fill="{colour}">{html.escape(name)}</text>')
    return _figure("Mean seconds of each stage", drawn, y + 10)


def _figure(title: str, drawn: list[str], height: int) -> str:
    box = f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" font-size="11">'
    return f"<h2>{html.escape(title)}</h2>{box}{''.join(drawn)}</svg>"
