"""Clips from a server: in parallel, resumed without asking twice, failures kept as failures."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.physics import client
from benchmarks.physics.cases import Case, read_folder, rows
from benchmarks.physics.client import Server, ServerGone, generate
from tests.benchmarks.physics.video_server import Script, serving

ROWS = rows([Case(f"c{n}", "bite", f"prompt {n}") for n in range(5)], repeats=2)


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr(client, "POLL", (0.01, 0.02))
    yield Script(lambda body: json.dumps(body).encode())


def test_each_row_becomes_a_file_made_of_its_prompt_and_seed(
    script: Script, tmp_path: Path
) -> None:
    told: list[str] = []
    with serving(script) as url:
        server = Server(url, "m", {"seconds": "4"})
        generate(server, ROWS, tmp_path, 3, told.append)
        clips = read_folder(tmp_path)
        assert [(c.case.case_id, c.repeat, c.seed) for c in clips] == [
            (r["case_id"], r["repeat"], r["seed"]) for r in ROWS
        ]
        for clip in clips:
            assert clip.path
            asked = json.loads(clip.path.read_text())
            assert asked == {
                "prompt": clip.case.prompt, "seed": clip.seed, "model": "m", "seconds": "4"
            }  # fmt: skip
        assert "5 cases, 10 clips, 0 of them there" in told[0] and "s a clip" in told[1]
        assert 1 < script.most_at_once <= 3
        generate(server, ROWS, tmp_path, 3, told.append)
        assert script.calls["POST"] == 10, "what is there is not asked for again"
        assert told[-1] == "5 cases, 10 clips, 10 of them there already"
        generate(Server(url, "other", {}), ROWS, tmp_path, 3, told.append)
        assert script.calls["POST"] == 20, "another model's clips are others"


def test_failed_and_refused_jobs_are_listed_and_not_tried_again(
    script: Script, tmp_path: Path
) -> None:
    blocked = {"code": "moderation_blocked", "message": "no"}
    script.error = lambda body: {
        "prompt 1": {"code": "generation_failed", "message": "broke"}, "prompt 2": blocked
    }.get(body["prompt"])  # fmt: skip
    script.refuse = lambda body: "seed is odd" if body["prompt"] == "prompt 3" else None
    with serving(script) as url:
        for _ in range(2):
            told: list[str] = []
            generate(Server(url, None, {}), ROWS, tmp_path, 2, told.append)
            assert {"2 of 10 clips failed: broke", "2 of 10 clips refused: no"} <= set(told)
            clips = read_folder(tmp_path)
            assert len(clips) == 10
            status = {clip.case.case_id: (clip.status, clip.error) for clip in clips}
            assert status == {
                "c0": ("made", ""), "c4": ("made", ""), "c1": ("failed", "broke"),
                "c2": ("refused", "no"), "c3": ("refused", status["c3"][1]),
            }  # fmt: skip
            assert "seed is odd" in status["c3"][1]
        assert script.calls["POST"] == 10


def test_a_run_that_was_stopped_waits_for_the_job_it_had_begun(
    script: Script, tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    with serving(script) as url:
        server = Server(url, None, {})
        generate(server, ROWS[:1], tmp_path / "other", 1, lambda _: None)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(client._Job, "_wait", stop)
            generate(server, ROWS[:1], tmp_path, 1, lambda _: None)
        assert not list(tmp_path.glob("*.mp4"))
        generate(server, ROWS[:1], tmp_path, 1, lambda _: None)
        assert script.calls["POST"] == 2, "one for each folder"
        assert read_folder(tmp_path)[0].status == "made"


@pytest.mark.parametrize("status", [401, 403, 429, 503])
def test_a_wrong_key_a_limit_or_a_model_that_is_still_loaded_costs_no_clip(
    status: int, script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a server would have made at another time is no failure of its model."""
    monkeypatch.setattr(client.openai.OpenAI, "_calculate_retry_timeout", lambda *_, **__: 0.0)
    script.status, script.refuse = status, lambda body: "not now"
    with serving(script) as url:
        server = Server(url, None, {})
        with pytest.raises(ServerGone, match="not now"):
            generate(server, ROWS[:2], tmp_path, 1, lambda _: None)
        assert not list(tmp_path.glob("*.json*")), "nothing is written down as failed"
        script.refuse = lambda body: None
        generate(server, ROWS[:2], tmp_path, 1, lambda _: None)
    assert [clip.status for clip in read_folder(tmp_path)] == ["made", "made"]


def test_a_job_that_the_server_has_lost_is_asked_for_anew(script: Script, tmp_path: Path) -> None:
    with serving(script) as url:
        server = Server(url, None, {})
        job = client._Job(server, ROWS[0], tmp_path / server.name(ROWS[0]))
        job._write({"id": "video_of_yesterday"})
        with pytest.raises(ServerGone, match="there is no video_of_yesterday"):
            generate(server, ROWS[:1], tmp_path, 1, lambda _: None)
        generate(server, ROWS[:1], tmp_path, 1, lambda _: None)
    assert read_folder(tmp_path)[0].status == "made" and script.calls["POST"] == 1


def test_what_the_server_warns_of_is_told_once_with_its_clips(
    script: Script, tmp_path: Path
) -> None:
    odd = "seconds: 4 was asked; m makes 2.125."
    script.warn = lambda body: [odd] if body["prompt"] == "prompt 3" else []
    with serving(script) as url:
        for _ in range(2):
            told: list[str] = []
            generate(Server(url, None, {}), ROWS, tmp_path, 2, told.append)
            assert told[-1] == f"2 of 10 clips made, with a warning: {odd}"
            assert sum("warning" in line for line in told) == 1


def test_a_server_that_is_not_there_costs_no_clip(tmp_path: Path) -> None:
    server = Server("http://127.0.0.1:9/v1", None, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client.openai.OpenAI, "_calculate_retry_timeout", lambda *_, **__: 0.0)
        with pytest.raises(ServerGone, match="Connection error"):
            generate(server, ROWS[:1], tmp_path, 1, lambda _: None)
    assert not list(tmp_path.glob("*.json*")), "nothing is written down as failed"


def test_a_job_that_never_ends_fails(script: Script, tmp_path: Path) -> None:
    with serving(script) as url:
        generate(Server(url, None, {}, timeout=-1.0), ROWS[:1], tmp_path, 1, lambda _: None)
    (clip,) = read_folder(tmp_path)
    assert (clip.status, clip.path) == ("failed", None) and "not ready" in clip.error
