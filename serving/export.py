"""All that a service keeps of one API key, as an archive for whoever it is about."""

import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from serving.files import Files
from serving.keys import Key
from serving.store import Store
from serving.tables import deliveries, uses, videos

TABLES = {"videos": videos, "webhooks": deliveries, "uses": uses}
"""What has rows of a key, by the name of their file."""


def export(store: Store, files: Files, key: Key, target: Path) -> int:
    """Write the archive, whole or not at all; gives the number of videos in it.

    `key.json`, `videos.jsonl`, `webhooks.jsonl` and `uses.jsonl` are what the database has, and
    `files/` is what is stored of each video, what came with its request included.
    """
    part = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        with zipfile.ZipFile(part, "w") as archive:
            known = {name: value for name, value in vars(key).items() if name != "digest"}
            archive.writestr("key.json", json.dumps(known, indent=2))
            with store.transaction() as connection:
                for name, table in TABLES.items():
                    rows = list(_rows(connection, table, key.id))
                    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                    archive.writestr(f"{name}.jsonl", lines)
                ids = sa.select(videos.c.id).where(videos.c.key_id == key.id)
                made = list(connection.scalars(ids))
            for video_id in made:
                for path, file in files.contents(video_id):
                    with archive.open(f"files/{video_id}/{path}", "w") as copy:
                        shutil.copyfileobj(file, copy)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    return len(made)


def _rows(connection: sa.Connection, table: sa.Table, key_id: str) -> Iterator[dict[str, Any]]:
    query = sa.select(table).where(table.c.key_id == key_id)
    for row in connection.execute(query).mappings():
        # Whose turn a job took is the hash of the very secret.
        yield {name: value for name, value in row.items() if name != "user_id"}
