"""Prompts are spread and seeded the same everywhere, and every line of a folder counts."""

import json
from pathlib import Path

import pytest

import world
from benchmarks.physics.cases import (
    Case,
    open_world_cases,
    read_folder,
    read_rows,
    rows,
    spread,
    world_cases,
    write_rows,
)
from world import captions


def test_world_cases_name_their_family_and_half_were_never_trained_on() -> None:
    cases = world_cases()
    assert len({c.case_id for c in cases}) == len(cases) == 8 * len(world.FAMILIES)
    for case in cases:
        named = captions.parse(case.prompt)
        assert named and named["family"] == case.family


def test_a_limit_takes_one_of_each_family_in_turn() -> None:
    cases = [Case(f"{f}{i}", f, "p") for f in "abc" for i in range(3)]
    assert [c.case_id for c in spread(cases, 4)] == ["a0", "b0", "c0", "a1"]
    assert len(spread(cases, None)) == 9


def test_seeds_hang_on_the_case_and_not_on_its_place() -> None:
    cases = [Case(f"c{i}", "a", "p") for i in range(4)]
    table = {(r["case_id"], r["repeat"]): r["seed"] for r in rows(cases, 2)}
    assert len(set(table.values())) == 8
    assert {(r["case_id"], r["repeat"]): r["seed"] for r in rows(cases[::-1], 3)}.items() >= (
        table.items()
    )


def test_a_folder_lists_every_line_made_or_not(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    table = [
        {"file": "a.mp4", "prompt": "a red ball is dropped and bounces"},
        {"file": "gone.mp4", "prompt": "x", "case_id": "x", "repeat": 0, "seed": 1},
        {"prompt": "x", "case_id": "x", "repeat": 1, "status": "refused", "error": "no"},
        {"prompt": "y", "family": "walk", "status": "failed", "error": "broke"},
    ]
    write_rows(tmp_path / "prompts.jsonl", table)
    clips = read_folder(tmp_path)
    assert [c.status for c in clips] == ["made", "failed", "refused", "failed"]
    assert [c.case.family for c in clips] == ["drop", "open", "open", "walk"]
    assert clips[1].error == "gone.mp4 is missing"
    write_rows(tmp_path / "prompts.jsonl", [*table, table[1]])
    with pytest.raises(ValueError, match="case_id 'x' has repeat 0 twice"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", ":1: not JSON"), ('{"file": "a"}', ":1: prompt is missing"), ("", "has no lines")],
)
def test_a_bad_prompts_file_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rows(path)


def test_open_world_questions_never_show_the_prompt() -> None:
    """A judge that reads the prompt grades the prompt: no run of six words of it is in any."""
    cases = open_world_cases()
    assert len(cases) == len({c.case_id for c in cases}) >= 64
    for case in cases:
        words = case.prompt.lower().split()
        runs = {" ".join(words[i : i + 6]) for i in range(len(words) - 5)}
        asked = json.dumps(case.questions, ensure_ascii=False).lower()
        assert not [run for run in runs if run in asked], case.case_id
        assert 2 <= len(case.questions) <= 6, case.case_id
