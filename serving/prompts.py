"""A folder of videos from a file of prompts, without a service.

A prompts file has one JSON object a line: `prompt`, and any field of the API's request. The folder
gets the videos and `prompts.jsonl`, the same lines with the `file` of each, or with `status` and
`error` where it could not be made.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from serving.errors import ApiError
from serving.schema import CreateVideo

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The lines of a prompts file. Raises `ValueError` naming the line and what is wrong."""
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}:{number}: not JSON ({error.msg}).") from None
        if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
            raise ValueError(f"{path}:{number}: prompt is missing; a line is an object with one.")
        rows.append(row)
    return rows


def write_folder(
    rows: list[Row],
    folder: Path,
    make: Callable[[CreateVideo, Path], object],
    options: dict[str, Any],
) -> list[Row]:
    """Make a video of each row that has none yet, and list them all.

    Args:
        rows: of `read`.
        folder: where to; a folder that an earlier run began is completed.
        make: renders a request into a file.
        options: fields of the request for the rows that do not have them.

    Returns:
        The rows as they are listed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for number, row in enumerate(rows):
        asked = json.dumps([row, options], sort_keys=True).encode()
        name = f"{number:05d}-{hashlib.sha256(asked).hexdigest()[:10]}.mp4"
        outcome: Row = {"file": name}
        if not (folder / name).exists():
            try:
                fields = {key: row[key] for key in CreateVideo.model_fields if key in row}
                make(CreateVideo.parse({**options, **fields, "model": None}), folder / name)
            except ApiError as error:
                outcome = {"status": "refused", "error": str(error)}
            except (ArithmeticError, RuntimeError, ValueError) as error:
                outcome = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        listed.append({**row, **outcome})
        write(folder / "prompts.jsonl", listed + rows[number + 1 :])
    return listed


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write a prompts file whole, or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    os.replace(part, path)
