"""What a data set is, to look at: `report.html`, and `README.md`, its card."""

import base64
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from training.data.prepare.rows import RIGHTS, reasons
from training.data.where import select
from training.files import write_whole

BINS = 24
SHOWN = 40
"""Most pictures of a sheet."""
NUMBERS = ("sharpness", "motion", "border", "brightness", "height", "fps", "frames")


def write_report(
    folder: Path, table: pa.Table, rows: Sequence[Mapping[str, Any]], told: Mapping[str, Any]
) -> None:
    """Write both pages beside the index.

    Args:
        folder: of the data set.
        table: its index.
        rows: those of the table, with their pictures (JPEG, base64).
        told: what `dataset.json` says.
    """
    is_clip = [row.get("reason") is None for row in rows]
    chosen = select(table, told["where"]).to_pylist()
    kept = [row for row, clip, yes in zip(rows, is_clip, chosen, strict=True) if clip and yes]
    spared = [row for row, clip, yes in zip(rows, is_clip, chosen, strict=True) if clip and not yes]
    sheets = {"Kept": kept, f"Left out when sampling: not ({told['where']})": spared}
    for reason, _ in sorted(reasons(table).items()):
        of_it = [r for r in rows if (r.get("reason") or "").startswith(reason) and "picture" in r]
        sheets[f"No clip: {reason}"] = of_it
    clips = table.filter(pa.array(is_clip))
    extra = [name for name in table.column_names[table.column_names.index("row") + 1 :]]
    content = {
        "told": told,
        "hours": sum(row["frames"] for row in kept) / told["fps"] / 3600,
        "counts": counts(table, len(kept)),
        "reasons": sorted(reasons(table).items()),
        "files": [row for row in rows if row.get("reason") and "picture" not in row],
        "rights": {name: _counted(clips, name) for name in (*RIGHTS, "captioned_by", "transfer")},
        "histograms": [histogram(clips, name) for name in (*NUMBERS, *extra)],
        "sheets": {name: (len(some), some[:SHOWN]) for name, some in sheets.items() if some},
    }
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("report.html", "README.md"):
        text = environment.get_template(f"{name}.j2").render(content)
        write_whole(folder / name, text.encode())


def counts(table: pa.Table, kept: int) -> dict[str, int]:
    """Files, pieces of them, clips, and those that are chosen."""
    clips = sum(reason is None for reason in table.column("reason").to_pylist())
    return {
        "files": len(set(table.column("uri").to_pylist())),
        "rows": len(table),
        "clips": clips,
        "kept": kept,
    }


def histogram(clips: pa.Table, name: str) -> dict[str, Any]:
    """The bars of a column, from 0 to 1, with the least, median and largest value."""
    values = np.array([v for v in clips.column(name).to_pylist() if v is not None], float)
    if not len(values):
        return {"name": name, "bars": [], "least": 0, "median": 0, "most": 0}
    heights, _ = np.histogram(values, BINS)
    numbers = {"least": values.min(), "median": np.median(values), "most": values.max()}
    return {
        "name": name,
        "bars": [round(float(h / heights.max()), 4) for h in heights],
        **{key: f"{value:.4g}" for key, value in numbers.items()},
    }


def picture(row: Mapping[str, Any]) -> bytes:
    """The JPEG of a row."""
    return base64.b64decode(row["picture"])


def _counted(clips: pa.Table, name: str) -> list[tuple[str, int]]:
    return sorted(Counter(value or "not said" for value in clips.column(name).to_pylist()).items())
