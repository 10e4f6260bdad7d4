"""A whole run over a scripted server: what fails stays in the score, and the page stands alone."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import world
from benchmarks.physics import cases, client, controls
from benchmarks.physics.__main__ import main as physics
from benchmarks.physics.cases import Case, write_rows
from model.video import write_mp4
from tests.benchmarks.physics.video_server import Script, serving

FAMILIES = ("drop", "beside")
CASES = [c for c in cases.world_cases(3) if c.family in FAMILIES][:5]
FAILING = {("beside-00", 1)}
"""One clip of ten."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """Ground truth by seed, one wrong clip among them."""
    folder = tmp_path_factory.mktemp("clips")
    made = {}
    for row in cases.rows(CASES, 2):
        scene = controls.scene_of(Case(row["case_id"], row["family"], row["prompt"]))
        assert scene
        frames = world.render(scene)
        if (row["case_id"], row["repeat"]) == ("drop-01", 0):
            frames[:] = frames[0]
        path = folder / f"{row['seed']}.mp4"
        write_mp4(path, frames, world.FPS, scale=4)
        made[row["seed"]] = path.read_bytes()
    return made


@pytest.fixture
def script(clips: dict[int, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr(client, "POLL", (0.01, 0.02))
    monkeypatch.setattr("benchmarks.physics.run.suite", lambda level: CASES)
    kept = {name: controls.CONTROLS[name] for name in ("ground truth", "frozen first frame")}
    monkeypatch.setattr(controls, "CONTROLS", kept)
    yield Script(lambda body: clips[body["seed"]])


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder of reports for several runs, so that no clip is graded twice."""
    return tmp_path_factory.mktemp("output")


def run(url: str, folder: Path, model: str, *more: str) -> dict[str, Any]:
    arguments = ["run", "--base-url", url, "--model", model, "-o", str(folder), "--parallel", "2"]
    arguments += more
    assert physics(arguments) == 0
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


def test_one_failed_job_in_ten_lowers_pcs_by_exactly_that_clip(
    script: Script, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = {
        row["seed"] for row in cases.rows(CASES, 2) if (row["case_id"], row["repeat"]) in FAILING
    }
    with serving(script) as url:
        whole = run(url, output, "whole")
        first = (output / "report.json").rename(output / "a.json")
        script.error = lambda body: {"message": "broke"} if body["seed"] in failing else None
        broken = run(url, output, "broken")
    printed = capsys.readouterr().out
    assert re.match(r"5 cases, 10 clips, 0 of them there already\nabout \d+ min: ", printed)
    a, b = whole["totals"], broken["totals"]
    assert a["clips"] == b["clips"] == 10 and a["cases"] == b["cases"] == 5
    assert (a["failed"], b["failed"]) == (0, 1)
    passed = {(c["case_id"], c["repeat"]): c["passed"] for c in whole["cases"]}
    assert passed[("beside-00", 1)] and not passed[("drop-01", 0)]
    for case in broken["cases"]:
        key = (case["case_id"], case["repeat"])
        assert case["passed"] == (passed[key] and key not in FAILING), key
        assert case["status"] == ("failed" if key in FAILING else "graded")
    beside = sum(key[0].startswith("beside") for key in passed)
    assert a["pcs"] - b["pcs"] == pytest.approx(1 / beside / len(FAMILIES), abs=1e-12)
    assert a["interval"][0] <= a["pcs"] <= a["interval"][1]
    truth, frozen = (baseline["pcs"] for baseline in broken["baselines"])
    assert truth > 0.9 > frozen

    assert physics(["compare", str(first), str(output / "report.json")]) == 0
    assert "p = 1.0000" in capsys.readouterr().out, "one clip is no proof"


def test_the_page_needs_nothing_else_and_shows_the_failure(script: Script, output: Path) -> None:
    with serving(script) as url:
        board = output / "board" / "board.md"
        at = url.replace("://", "://user:secret@")
        report = run(at, output, "m<b>", "--board", str(board))
    page = (output / "report.html").read_text()
    assert not re.search(r"(src|href|url)\s*[=(]\s*['\"]?(https?:)?//", page)
    assert "m&lt;b&gt;" in page and "<script" not in page
    assert page.count('<img src="data:image/jpeg;base64,') == 1 + 2, "a failure, best and middle"
    assert "secret" not in page + json.dumps(report)
    with (output / "cases.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    text = board.read_text()
    assert "| **m<b>** | 10 | 91.7 |" in text and "| ground truth | 5 | 100.0 |" in text
    for name in re.findall(r"\]\(([\w-]+\.png)\)", text):
        assert board.with_name(name).read_bytes()[:4] == b"\x89PNG"
    assert text.count(".png)") == 2
    assert [row["passed"] for row in table].count("True") == 9 == 10 - 1


def test_a_folder_from_anywhere_is_graded_and_its_gaps_count(
    clips: dict[int, bytes], script: Script, tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    table = []
    for number, row in enumerate(cases.rows(CASES[:2], 1)):
        (folder / f"{number}.mp4").write_bytes(clips[row["seed"]])
        table.append({"file": f"{number}.mp4", "prompt": row["prompt"]})
    (folder / "torn.mp4").write_bytes(clips[row["seed"]][:200])
    table.append({"file": "torn.mp4", "prompt": CASES[2].prompt})
    table.append({"file": "never.mp4", "prompt": CASES[2].prompt, "repeat": 1})
    write_rows(folder / "prompts.jsonl", table)
    assert physics(["run", "--videos", str(folder), "-o", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["totals"]["clips"], report["totals"]["failed"]) == (4, 2)
    reasons = [case.get("reason", "") for case in report["cases"] if case["status"] == "failed"]
    assert "cannot be read" in reasons[0] and reasons[1] == "never.mp4 is missing"


def test_diagnostics_of_the_same_folder_have_no_pcs(
    clips: dict[int, bytes], tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(next(iter(clips.values())))
    write_rows(tmp_path / "prompts.jsonl", [{"file": "a.mp4", "prompt": "anything at all"}])
    out = tmp_path / "out"
    assert physics(["run", "--level", "l1", "--videos", str(tmp_path), "-o", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert "pcs" not in report["totals"] and "pcs" not in report["families"][0]
    assert {d["name"] for d in report["diagnostics"]} >= {"motion", "frozen", "warping_error"}
    assert "PCS" not in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "give either --base-url"),
        (["run", "--videos", "{}", "--base-url", "http://x/v1"], "give either --base-url"),
        (["run", "--videos", "{}/none"], "prompts.jsonl is missing"),
        (["run", "--videos", "{}"], "is no sentence of the world"),
        (["prompts", "--from", "vbench-2"], "--path is missing"),
        (["run", "--level", "l2", "--videos", "{}"], "level l2 needs --judge-url"),
        (["run", "--videos", "{}", "--validation", "{}/old.json"], "validate anew"),
    ],
)
def test_what_cannot_be_done_is_said(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"file": "a.mp4", "prompt": "anything"}])
    (tmp_path / "old.json").write_text('{"thresholds_sha256": "0"}')
    filled = [text.replace("{}", str(tmp_path)) for text in arguments]
    assert physics([*filled, "-o", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err


def test_one_s_own_prompts_are_limited_by_families_and_no_clip_is_asked_for_in_vain(
    script: Script, tmp_path: Path
) -> None:
    """Two cases of four: one of each family, and not the first two of the file."""
    own = [case for family in FAMILIES for case in CASES if case.family == family][1:]
    write_rows(tmp_path / "p.jsonl", cases.rows(own, 1))
    with serving(script) as url:
        more = ("--level", "l1", "--prompts", str(tmp_path / "p.jsonl"), "--limit", "2")
        report = run(url, tmp_path / "out", "own", *more)
    assert sorted(case["family"] for case in report["cases"]) == sorted(FAMILIES)
    assert script.calls["POST"] == 2


def test_a_run_can_be_stopped(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client._Job, "_wait", stop)
    with serving(script) as url:
        assert physics(["run", "--base-url", url, "-o", str(tmp_path)]) == 130
    assert "Run the same command again" in capsys.readouterr().err


def test_reports_of_other_prompts_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {"level": "l0", "suite_digest": "x", "cases": []}
    case = {"case_id": "a", "repeat": 0, "prompt": "p", "family": "f", "passed": True}
    for name, content in (("a", report), ("b", report | {"cases": [case]})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert physics(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 2
    assert "1 clips are in one report only" in capsys.readouterr().err


def test_a_regression_is_an_exit_status(tmp_path: Path) -> None:
    for name, passed in (("a", True), ("b", False)):
        table = [
            {"case_id": f"c{i}", "repeat": 0, "prompt": "p", "family": "f", "passed": passed}
            for i in range(8)
        ]
        content = {"level": "l0", "suite_digest": "x", "cases": table}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    a, b = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    assert physics(["compare", a, b]) == 1
    assert physics(["compare", b, a]) == 0


def test_prompts_are_written_for_generate(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    assert physics(["prompts", "--limit", "4", "--repeats", "3", "-o", str(path)]) == 0
    table = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(table) == 12 and len({row["family"] for row in table}) == 4
    assert all({"prompt", "case_id", "repeat", "seed"} <= row.keys() for row in table)
