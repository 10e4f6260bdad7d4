"""Captions come of an endpoint once each: retried, kept, and beside what was said before."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.training.endpoint import Endpoint
from tests.training.videos import even, write_video
from training.data.prepare import captions
from training.data.prepare.__main__ import main, parse_arguments
from training.data.prepare.captions import CaptionError

CLIP = ["--fps", "10", "--frames", "9", "--min-frames", "5", "--workers", "1"]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr(captions, "PAUSE", 0.01)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    found = Endpoint([])
    yield found
    found.server.shutdown()
    found.server.server_close()


def prepare(folder: Path, out: Path, *arguments: str) -> list[dict[str, Any]]:
    main(parse_arguments([str(folder), "-o", str(out), *CLIP, *arguments]))
    rows: list[dict[str, Any]] = pq.read_table(out / "index.parquet").to_pylist()
    return rows


def test_clips_without_a_caption_are_described_once(endpoint: Endpoint, tmp_path: Path) -> None:
    """Errors that pass are tried again; a second run asks nothing; the pictures are the clip's."""
    write_video(tmp_path / "in" / "a.mp4", even(9, 10), (96, 64), seed=1)
    write_video(tmp_path / "in" / "b.mp4", even(9, 10), seed=2)
    (tmp_path / "in" / "b.txt").write_text("said before")
    endpoint.statuses = [503, 429]
    for _ in range(2):
        rows = prepare(tmp_path / "in", tmp_path, "--endpoint", endpoint.url)
        assert [row["caption"] for row in rows] == ["what is seen, 3", "said before"]
        assert [row["captioned_by"] for row in rows] == ["gpt-4o-mini", "file"]
    assert len(endpoint.asked) == 3 and endpoint.asked[0]["key"] == "Bearer sk-test"
    _, *pictures = endpoint.asked[0]["messages"][0]["content"]
    data = pictures[0]["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    assert len(pictures) == 4
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (96, 64)

    rows = prepare(tmp_path / "in", tmp_path, "--endpoint", endpoint.url, "--recaption")
    assert [row["caption"] for row in rows] == ["what is seen, 3", "what is seen, 4"]
    assert rows[1]["earlier_captions"] == ["said before"]


def test_what_cannot_be_described_ends_it_and_costs_the_others_nothing(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    for k in range(3):
        write_video(tmp_path / "in" / f"{k}.mp4", even(9, 10), seed=k)
    endpoint.statuses = [400]
    with pytest.raises(CaptionError, match="1 of 3 clips could not be captioned .*HTTP 400"):
        prepare(tmp_path / "in", tmp_path, "--endpoint", endpoint.url)
    assert len(endpoint.asked) == 3
    rows = prepare(tmp_path / "in", tmp_path, "--endpoint", endpoint.url)
    assert len(endpoint.asked) == 4 and all(row["caption"] for row in rows)
