"""The rows of an index: one a clip, and one for each file or piece that is none."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from training.data.clips import fitted
from training.data.prepare.scores import near_duplicates
from training.data.prepare.sources import Source

RIGHTS = ("source", "license", "consent")
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("reason", pa.string()),  # null for a clip
        ("damage", pa.string()),
        ("group", pa.string()),  # what must not be divided between training and validation
        ("origin", pa.string()),  # seconds of the file's first frame, as a fraction
        ("first", pa.int32()),
        ("frames", pa.int32()),
        ("start", pa.float64()),
        ("end", pa.float64()),
        ("width", pa.int32()),  # of the file
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("codec", pa.string()),
        ("transfer", pa.string()),
        ("audio", pa.bool_()),
        ("clip_width", pa.int32()),
        ("clip_height", pa.int32()),
        ("caption", pa.string()),
        ("captioned_by", pa.string()),
        ("earlier_captions", pa.list_(pa.string())),
        *((name, pa.string()) for name in RIGHTS),
        ("sharpness", pa.float64()),
        ("motion", pa.float64()),
        ("border", pa.float64()),
        ("brightness", pa.float64()),
        ("duplicate", pa.bool_()),
        ("duplicate_of", pa.string()),
        ("shard", pa.int32()),
        ("row", pa.int32()),
    ]
)


def rows_of(
    inspected: Sequence[tuple[Source, dict[str, Any] | None]],
    fps: int,
    area: int,
    multiple: int,
    required: Sequence[str],
) -> list[dict[str, Any]]:
    """Lay out what the files gave, in their order.

    Args:
        inspected: files with what `inspect` says of them; None where it crashed.
        fps: of the data set.
        area: most pixels of a frame.
        multiple: of which sides are.
        required: rights without which a file gives no clip.
    """
    rows: list[dict[str, Any]] = []
    first_of: dict[str, str] = {}
    for source, found in inspected:
        told: dict[str, Any] = {"uri": source.uri, "caption": source.caption}
        told |= {name: getattr(source, name) for name in RIGHTS}
        told |= {"captioned_by": "file" if source.caption else "", "earlier_captions": []}
        found = found or {"sha256": None, "reason": "the decoder crashed"}
        missing = [name for name in required if not getattr(source, name)]
        reason = found.get("reason")
        if reason is None and missing:
            reason = f"no {missing[0]}, which --require asks for"
        if (
            reason is None
            and (same := first_of.setdefault(found["sha256"], source.uri)) != source.uri
        ):
            reason = f"the same file as {same}"
        told |= {name: found.get(name) for name in ("sha256", "damage", "origin", "codec",
                                                     "transfer", "audio")}  # fmt: skip
        told |= {name: found.get(f"source_{name}") for name in ("width", "height", "fps")}
        if reason is not None:
            rows.append(told | {"reason": reason})
            continue
        rows += [told | _clip(found, clip, fps, area, multiple) for clip in found["clips"]]
    _mark_duplicates(rows)
    return rows


def _clip(
    found: Mapping[str, Any], clip: Mapping[str, Any], fps: int, area: int, multiple: int
) -> dict[str, Any]:
    width, height = fitted(found["source_width"], found["source_height"], area, multiple)
    reason = clip.get("reason")
    if reason is None and not (width and height):
        reason = f"smaller than {multiple} pixels"
    start = float(_fraction(found["origin"])) + clip["first"] / fps
    return {
        **clip,
        "id": f"{found['sha256'][:16]}-{clip['first']:06d}",
        "group": found["sha256"][:16],
        "reason": reason,
        "start": start,
        "end": start + clip["frames"] / fps,
        "clip_width": width,
        "clip_height": height,
    }


def _fraction(text: str) -> float:
    numerator, _, denominator = text.partition("/")
    return int(numerator) / int(denominator or 1)


def _mark_duplicates(rows: list[dict[str, Any]]) -> None:
    """Mark clips that show the same; files that share one are one group."""
    clips = [row for row in rows if row.get("reason") is None]
    pairs = near_duplicates([c["signature"] for c in clips], [c["sha256"] for c in clips])
    group = {c["group"]: c["group"] for c in clips}

    def root(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for clip, other in zip(clips, pairs, strict=True):
        clip["duplicate"] = other is not None
        clip["duplicate_of"] = None if other is None else clips[other]["id"]
        if other is not None:
            one, two = root(clip["group"]), root(clips[other]["group"])
            group[max(one, two)] = min(one, two)
    for clip in clips:
        clip["group"] = root(clip["group"])


def write_index(rows: Sequence[Mapping[str, Any]], file: Path) -> pa.Table:
    """Write an index, whole or not at all; numbers of plug-ins are columns behind the others."""
    extra = sorted({name for row in rows for name in row.get("scores", {})})
    schema = SCHEMA
    for name in extra:
        schema = schema.append(pa.field(name, pa.float64()))
    flat = [{**row, **row.get("scores", {})} for row in rows]
    table = pa.Table.from_pylist([{k: row.get(k) for k in schema.names} for row in flat], schema)
    partial = file.with_name(f".{file.name}.partial")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(file)
    return table


def reasons(table: pa.Table) -> Counter[str]:
    """How many rows have which reason, without what names a file in it."""
    texts = (text for text in table.column("reason").to_pylist() if text is not None)
    return Counter(text.split(":")[0].split(" as ")[0] for text in texts)
