"""What is in data sets, before a training is spent on them.

    python -m training.data.stats dataset/ more/ [--where EXPRESSION] [--held-out 0.05] [--json]

Of each: files and rows, clips and those that the expression chooses, hours, tokens of the
transformer, shapes, rights, captions, and how the source videos are divided.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from training.config import ConfigError
from training.data.prepare.rows import RIGHTS, reasons
from training.data.prepared import Prepared, open_prepared

SCORES = ("sharpness", "motion", "border", "brightness")
PATCH = 2
"""Sides of a token, in latents; it is one latent frame deep."""


def stats(folder: Path, where: str = "", held_out: float = 0.0) -> dict[str, Any]:
    """Count what a data set holds.

    Raises:
        ConfigError: as `open_prepared`.
    """
    trained, held = open_prepared(folder, where, held_out)
    table = pq.read_table(folder / "index.parquet", memory_map=True)
    rows = trained.rows + held.rows
    lengths = [len(row["caption"].split()) for row in rows]
    return {
        "folder": str(folder),
        "files": len(set(table.column("uri").to_pylist())),
        "clips": table.column("reason").null_count,
        "no clip": dict(sorted(reasons(table).items())),
        "chosen": len(rows),
        "hours": round(sum(row["frames"] for row in rows) / trained.told["fps"] / 3600, 4),
        "tokens": tokens(trained) + tokens(held),
        "shapes": _counted(f"{r['clip_width']}x{r['clip_height']}x{r['frames']}" for r in rows),
        "captioned": sum(length > 0 for length in lengths),
        "words of a caption": _spread(lengths),
        **{name: _counted(row[name] or "not said" for row in rows) for name in RIGHTS},
        **{name: _spread([row[name] for row in rows]) for name in SCORES},
        "sources": {name: len({row["group"] for row in side.rows})
                    for name, side in (("trained on", trained), ("held out", held))},
    }  # fmt: skip


def tokens(prepared: Prepared) -> int:
    """What the transformer sees of all clips once; 0 where they are not encoded."""
    if not prepared.told.get("vae") or not prepared.rows:
        return 0
    shards = prepared.shards()
    sizes = np.array([shards[row["shard"]].sizes[row["row"]] for row in prepared.rows])
    return int((sizes[:, 0] * (sizes[:, 2] // PATCH) * (sizes[:, 3] // PATCH)).sum())


def _counted(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common(12))


def _spread(values: Sequence[float]) -> dict[str, float]:
    """Least, median and largest."""
    if not values:
        return {}
    return {
        name: round(float(np.quantile(values, q)), 4)
        for name, q in (("least", 0), ("median", 0.5), ("most", 1))
    }


def main() -> None:
    """Print the counts of the folders named."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.stats",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument(
        "--where", default="", help="which clips; the data set's own choice if absent"
    )
    parser.add_argument("--held-out", type=float, default=0.0, help="share of the source videos")
    parser.add_argument("--json", action="store_true", help="one JSON list, for programs")
    options = parser.parse_args()
    try:
        found = [stats(folder, options.where, options.held_out) for folder in options.folders]
    except ConfigError as error:
        sys.exit(f"stats: {error}")
    if options.json:
        print(json.dumps(found))
        return
    for one in found:
        for name, value in one.items():
            told = (
                ", ".join(f"{k} {v}" for k, v in value.items())
                if isinstance(value, dict)
                else value
            )
            print(f"{name:18} {told}")
        print()


if __name__ == "__main__":
    main()
