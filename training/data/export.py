"""A prepared data set as WebDataset tars: `ID.mp4`, `ID.txt` and `ID.json` of every clip.

    python -m training.data.export dataset/ -o tars/ [--where EXPRESSION] [--clips 1000]

The clips are cut, at the data set's rate and size; `training.data.prepare` reads them again.
"""

import argparse
import io
import json
import sys
import tarfile
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

from model.video import write_mp4
from training.config import ConfigError
from training.data.clips import covering, cropped, read_clip
from training.data.prepare.rows import RIGHTS
from training.data.prepared import Prepared, open_prepared


def export(folder: Path, out: Path, where: str, size: int) -> int:
    """Write the tars, each whole or not at all; gives how many clips are in them."""
    prepared, _ = open_prepared(folder, where, 0.0)
    out.mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(prepared.rows), size)):
        partial = out / f".{number:06d}.tar.partial"
        with tarfile.open(partial, "w") as tar:
            for row in prepared.rows[start : start + size]:
                for suffix, content in _members(prepared, row):
                    told = tarfile.TarInfo(f"{row['id']}.{suffix}")
                    told.size = len(content)
                    tar.addfile(told, io.BytesIO(content))
        partial.replace(out / f"{number:06d}.tar")
    return len(prepared.rows)


def _members(prepared: Prepared, row: dict[str, Any]) -> list[tuple[str, bytes]]:
    fps, size = prepared.told["fps"], (row["clip_width"], row["clip_height"])
    frames = cropped(read_clip(row, Fraction(fps), covering(*size)), *size)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        write_mp4(file, frames, fps)
        video = file.read_bytes()
    told = {name: row[name] for name in (*RIGHTS, "uri", "sha256", "start", "end")}
    return [("mp4", video), ("txt", row["caption"].encode()), ("json", json.dumps(told).encode())]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m training.data.export", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the tars")
    parser.add_argument(
        "--where", default="", help="which clips; the data set's own choice if absent"
    )
    parser.add_argument("--clips", type=int, default=1000, help="most of a tar (1000)")
    options = parser.parse_args()
    try:
        count = export(options.folder, options.output, options.where, options.clips)
    except ConfigError as error:
        sys.exit(f"export: {error}")
    print(f"{options.output}: {count} clips")
