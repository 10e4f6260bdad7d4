"""A folder of videos from a file of prompts: every line is listed, made or not, and none twice."""

import json
from pathlib import Path

import pytest

from serving import prompts
from serving.errors import ApiError
from serving.schema import CreateVideo


def test_every_row_is_listed_with_its_file_or_what_went_wrong(tmp_path: Path) -> None:
    rows = [{"prompt": f"ball {n}", "case_id": f"c{n}", "repeat": 0, "seed": n} for n in range(3)]
    rows.append({"prompt": "ball 3", "seed": "soon"})
    made: list[int | None] = []

    def make(request: CreateVideo, path: Path) -> None:
        made.append(request.seed)
        assert request.num_inference_steps == 2
        if request.seed == 1:
            raise FloatingPointError("denoising ended in values that are not finite")
        if request.seed == 2:
            raise ApiError("seed must be odd.", param="seed")
        path.write_bytes(b"mp4")

    options = {"num_inference_steps": 2, "prompt": None, "model": None}
    for _ in range(2):
        listed = prompts.write_folder(rows, tmp_path, make, options)
        written = [json.loads(x) for x in (tmp_path / "prompts.jsonl").read_text().splitlines()]
        assert written == listed
        assert [row.get("status") for row in listed] == [None, "failed", "refused", "refused"]
        assert (tmp_path / listed[0]["file"]).read_bytes() == b"mp4"
        assert "not finite" in listed[1]["error"] and "odd" in listed[2]["error"]
        assert [{k: row[k] for k in rows[0]} for row in listed[:3]] == rows[:3]
    assert made == [0, 1, 2, 1, 2], "the second time, what is there stays"


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n\n{"text": "b"}\n')
    with pytest.raises(ValueError, match="p.jsonl:3: prompt is missing"):
        prompts.read(path)
    path.write_text("a red ball\n")
    with pytest.raises(ValueError, match="p.jsonl:1: not JSON"):
        prompts.read(path)
