"""What is deleted is nowhere any more, and what is kept of a key can be had as an archive."""

import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from serving.cli import main
from serving.service import Service
from serving.webhooks import Secrets, queue_due
from tests.serving.hostile import clip, picture
from tests.serving.idle import finish, idle_service, served

SENTINEL = "sentinel4711"


def found_in_tables(service: Service, *words: str) -> list[str]:
    """The tables that hold any of these words, the durable queue's among them."""
    found = []
    with service.store.transaction() as connection:
        inspector = sa.inspect(connection)
        # The queue has a schema of its own where there are schemas.
        schemas = set(inspector.get_schema_names()) & {"main", "public", "dbos"}
        tables = {
            (schema, name) for schema in schemas for name in inspector.get_table_names(schema)
        }
        assert {"videos", "deliveries", "workflow_status"} <= {name for _, name in tables}
        for schema, name in tables:
            rows = connection.execute(sa.text(f'SELECT * FROM "{schema}"."{name}"')).all()
            text = "\n".join(str(list(row)) for row in rows)
            found += [name for word in words if word in text]
    return found


def found_in_files(folder: Path, *words: str) -> list[str]:
    """Names of files that hold any of these words, in their content or their path."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    text = {path: str(path.relative_to(folder)).encode() + path.read_bytes() for path in files}
    return [str(path) for path, data in text.items() for w in words if w.encode() in data]


def make(api: httpx.Client, service: Service, **fields: Any) -> str:
    """A completed video, with all that can belong to one."""
    headers = {"idempotency-key": f"{SENTINEL}-key"}
    body = {"prompt": SENTINEL, "user": SENTINEL, **fields}
    response = api.post("/v1/videos", data=body, files={"input_reference": picture("PNG")})
    assert response.status_code == 200, response.text
    video_id = str(response.json()["id"])
    finish(service, video_id, clip(17))
    again = api.post("/v1/videos", json={"prompt": SENTINEL}, headers=headers).json()["id"]
    finish(service, again, clip(17))
    assert api.delete(f"/v1/videos/{again}").is_success
    return video_id


def test_after_delete_neither_id_nor_prompt_is_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked of every table and file, and of the bytes of the database once it is closed."""
    with idle_service(tmp_path) as service, served(service) as api:
        Secrets(service.store.engine).rotate("", 0)
        monkeypatch.setattr(service._egress, "check", lambda url: None)
        # Nobody runs the jobs here: the queue is told that they have returned.
        monkeypatch.setattr(service.jobs, "settled", set)
        video_id = make(api, service, webhook_url=f"https://example.com/{SENTINEL}")
        remix = api.post(f"/v1/videos/{video_id}/remix", json={"prompt": "a cat"}).json()["id"]
        queue_due(service.store, service.jobs)
        words = (SENTINEL, video_id, video_id.removeprefix("video_"))
        assert found_in_tables(service, SENTINEL) and found_in_tables(service, video_id)
        assert found_in_files(tmp_path / "videos", video_id)
        assert api.delete(f"/v1/videos/{video_id}").is_success
        assert found_in_tables(service, *words) == []
        assert found_in_files(tmp_path / "videos", *words) == []
        assert api.get(f"/v1/videos/{remix}").json()["remixed_from_video_id"] is None
    assert found_in_files(tmp_path, *words) == []


def test_a_key_s_archive_holds_its_rows_and_files_and_nobody_else_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with idle_service(tmp_path) as service, served(service) as api:
        monkeypatch.setattr(service.jobs, "settled", set)
        made = {}
        for name in ("shop", "other"):
            api.headers["authorization"] = f"Bearer {service.keys.create(name, per_day=9)}"
            made[name] = make(api, service)
        secret = api.headers["authorization"].split()[1]
    target = tmp_path / "mine.zip"
    assert main(["keys", "export", "--data", str(tmp_path), "shop", "-o", str(target)]) == 0
    assert capsys.readouterr().out == f"{target}: 1 videos.\n"
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
        rows = [json.loads(line) for line in archive.read("videos.jsonl").splitlines()]
        uses = archive.read("uses.jsonl").decode()
        everything = b"".join(archive.read(name) for name in names)
    folder = f"files/{made['shop']}"
    assert {f"{folder}/1.mp4", f"{folder}/inputs/first_frame.png"} <= set(names)
    assert [row["id"] for row in rows] == [made["shop"]]
    assert rows[0]["resolved"]["prompt"] == SENTINEL and '"per": "day"' in uses
    for foreign in (made["other"], "other", secret):
        assert foreign.encode() not in everything
    assert main(["keys", "export", "--data", str(tmp_path), "nobody", "-o", str(target)]) == 1
