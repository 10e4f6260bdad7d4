"""The VLM judge with a scripted one in its place: what is asked, what passes, who is believed."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.physics import run
from benchmarks.physics.__main__ import main as physics
from benchmarks.physics.cases import Case, Clip, write_rows
from benchmarks.physics.grading import Graded
from benchmarks.physics.l2 import level, planted
from benchmarks.physics.l2.calibration import (
    Ability,
    auroc,
    corrected,
    corrected_interval,
    kappa,
)
from benchmarks.physics.l2.endpoint import Endpoint, parse, probability
from benchmarks.physics.l2.frames import pick
from benchmarks.physics.l2.judge import Judge
from benchmarks.physics.l2.questions import Viewer, ask
from benchmarks.physics.scores import Outcome
from model.video import write_mp4
from tests.benchmarks.physics.judge_server import Question, Script, brightness, certain, serving

FPS = 8.0


def ramp(count: int = 17) -> np.ndarray[Any, Any]:
    """A clip that gets brighter: 40 at the start, 200 at the end; a white block at the left."""
    levels = np.linspace(40, 200, count).astype(np.uint8)
    frames = np.repeat(levels[:, None, None, None], 64, 1).repeat(96, 2).repeat(3, 3)
    frames[:, 20:40, 4:24] = 255
    return frames


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[tuple[Script, Viewer]]:
    script = Script(lambda question: "yes")
    with serving(script) as url:
        yield script, Viewer(Endpoint(url, "m", tmp_path), ramp(), FPS, "seed")


def test_frames_are_eight_even_ones_and_four_at_the_largest_changes() -> None:
    frames = np.zeros((100, 16, 16, 3), np.uint8)
    for change in (11, 33, 52, 77):
        frames[change:] += 50
    even = {round(i * 99 / 7) for i in range(8)}
    assert set(pick(frames)) == even | {11, 33, 52, 77}
    assert pick(frames[:5]) == [0, 1, 2, 3, 4]


def test_a_change_is_asked_blind_to_order(viewer: tuple[Script, Viewer]) -> None:
    script, seen = viewer

    def brighter(question: Question) -> str:
        a, b = question.pictures
        return "a" if brightness(a) > brightness(b) else "b"

    script.answer = brighter
    orders = set()
    for what in ("light", "glow", "sun", "day"):
        assert ask({"change": what, "more": "after"}, seen).passed
        assert not ask({"change": what, "more": "before"}, seen).passed
        orders |= {brightness(q.pictures[0]) > brightness(q.pictures[1]) for q in script.asked}
    assert orders == {True, False}, "the brighter picture is shown first and second"
    script.answer = lambda question: "a"
    assert not all(ask({"change": f"x{i}", "more": "after"}, seen).passed for i in range(8))


def test_a_side_must_flip_in_the_mirror(viewer: tuple[Script, Viewer]) -> None:
    script, seen = viewer

    def where(question: Question) -> str:
        picture = np.asarray(question.pictures[0].convert("L"), float)
        return "left" if picture[:, :48].mean() > picture[:, 48:].mean() else "right"

    script.answer = where
    asked = {"side": "the block", "answer": "left", "of": "the middle"}
    assert ask(asked, seen).passed
    assert not ask(asked | {"answer": "right"}, seen).passed
    script.answer = lambda question: "left"
    answered = ask(asked, seen)
    assert answered.passed, "asked before: the cache answers"
    assert not ask(asked | {"side": "a block"}, seen).passed, "who always says left fails"


def test_who_agrees_with_a_statement_and_its_opposite_fails(viewer: tuple[Script, Viewer]) -> None:
    script, seen = viewer
    asked = {"polarity": "It stays.", "antonym": "It goes."}
    assert not ask(asked, seen).passed
    script.answer = lambda question: "yes" if "remains" in question.text else "no"
    assert ask({"polarity": "It remains.", "antonym": "It leaves."}, seen).passed


@pytest.mark.parametrize(
    ("question", "answers", "passed"),
    [
        ({"count": "legs", "number": 4}, ["4", "four", "4"], True),
        ({"count": "legs", "number": "four"}, ["4", "4", "5"], False),
        ({"count": "marks", "first": 0, "last": 1}, ["0", "1"], True),
        ({"count": "marks", "first": 0, "last": 1}, ["1", "1"], False),
        ({"text": "the sign", "reads": "HAPPY 30"}, ["happy 30", "Happy30", "no"], True),
        ({"text": "the sign", "reads": "OPEN"}, ["oven", "open", "oqen"], False),
        ({"outcome": "It fell."}, ["yes", "no", "yes"], True),
        ({"outcome": "It fell."}, ["yes", "cannot tell", "cannot tell"], False),
        ({"outcome": "It rose.", "expect": "no"}, ["no", "no", "yes"], True),
    ],
)
def test_answers_make_a_pass(
    question: dict[str, Any], answers: list[str], passed: bool, viewer: tuple[Script, Viewer]
) -> None:
    script, seen = viewer
    rest = list(answers)
    script.answer = lambda question: rest.pop(0)
    answered = ask(question, seen)
    assert answered.passed == passed and len(answered.answers) == len(answers)


def test_an_order_is_asked_with_its_choices_tossed(viewer: tuple[Script, Viewer]) -> None:
    script, seen = viewer
    script.answer = lambda question: "1" if "1: dawn" in question.text else "2"
    for number in range(6):
        assert ask({"order": "dawn", "then": f"noon {number}"}, seen).passed
    assert {"1: dawn" in question.text for question in script.asked} == {True, False}


def test_an_endpoint_that_takes_one_picture_gets_a_sheet_and_probabilities_count(
    tmp_path: Path,
) -> None:
    script = Script(lambda question: "yes", most_pictures=1, logprob=certain(0.7))
    with serving(script) as url:
        judge = Endpoint(url, "m", tmp_path)
        answered = ask({"outcome": "It is bright."}, Viewer(judge, ramp(), FPS, "s"))
    assert answered.credit == pytest.approx(0.7) and judge.as_sheet
    sheet = script.asked[-1].pictures[0]
    assert sheet.size == (4 * 256, 3 * 256) and "12: frame" in script.asked[-1].text
    assert judge.calls == 3 and judge.tokens == 300


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"answer": "Yes."}', "yes"),
        ('Well: ```json\n{"answer": 4}\n```', "4"),
        ("yes", ""),
        ('{"why": "x"} {"answer": "cannot tell"}', "cannot tell"),
        ('{"answer": ', ""),
    ],
)
def test_replies_are_parsed(text: str, answer: str) -> None:
    assert parse(text) == answer


def test_the_probability_is_that_of_the_answer_s_token() -> None:
    tokens = [("yes", -3.0), ('{"', 0.0), ("answer", 0.0), ('": "', 0.0), ("cannot", -0.5)]
    assert probability("cannot tell", tokens) == pytest.approx(np.exp(-0.5))
    assert probability("no", tokens) is None


def test_a_failed_parent_fails_its_children(tmp_path: Path) -> None:
    case = Case("c", "f", "p", ({"present": "a cat"}, {"outcome": "It fell."}))
    script = Script(lambda question: "no" if "a cat" in question.text else "yes")
    with serving(script) as url:
        judge = Judge(Endpoint(url, "m", tmp_path))
        grade = judge.grade(Clip(case, 0, 0, None), ramp(), FPS)
        assert (grade.measurable, grade.semantic, grade.physics) == (True, False, False)
        assert grade.details["score"] == 0.0 and "a whole secret prompt" not in str(script.asked)
        script.answer = lambda question: "cannot tell"
        other = Judge(Endpoint(url, "n", tmp_path)).grade(Clip(case, 0, 0, None), ramp(), FPS)
    assert not other.measurable


def test_corrected_rates_by_hand() -> None:
    """Seen 0.5 by a judge of Se 0.9, Sp 0.8: (0.5 + 0.8 - 1) / 0.7."""
    assert corrected(0.5, 0.9, 0.8) == pytest.approx(0.3 / 0.7)
    assert corrected(0.1, 0.9, 0.8) == 0.0 and corrected(0.95, 0.9, 0.8) == 1.0
    assert np.isnan(corrected(0.5, 0.5, 0.5)), "a coin corrects nothing"
    assert auroc([3, 2], [1, 2]) == 3.5 / 4
    a = dict.fromkeys(range(10), True) | {0: False, 1: False}
    b = dict.fromkeys(range(10), True) | {0: False, 2: False}
    # Agreed 0.8; by chance 0.8 x 0.8 + 0.2 x 0.2 = 0.68.
    assert kappa(a, b) == pytest.approx((0.8 - 0.68) / 0.32)


def test_few_controls_widen_the_corrected_interval() -> None:
    passes = (np.arange(40) % 2).astype(float)[:, None]
    intervals = [
        corrected_interval(
            passes, Ability((True,) * (9 * n) + (False,) * n, (True,) * n + (False,) * (9 * n), 1.0)
        )
        for n in (1, 30)
    ]
    few, many = (high - low for low, high in intervals)
    assert few > 1.3 * many
    assert intervals[1].low < corrected(0.5, 0.9, 0.9) < intervals[1].high


def test_a_judge_that_says_yes_to_all_is_not_believed_and_a_good_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips are made of one grey level that says whether they are right: what a judge must see."""
    asked = ({"outcome": "It obeys."},)

    def plant(per_family: int) -> Iterator[planted.Planted]:
        for family in ("bite", "count"):
            for number in range(per_family):
                for right in (True, False):
                    frames = np.full((9, 64, 64, 3), 200 if right else 60, np.uint8)
                    frames[:, number] = 10 * number
                    yield planted.Planted(family, Case("c", family, "", asked), frames, right, "")

    monkeypatch.setattr(planted, "plant", plant)
    rows = []
    for number in range(4):
        frames = np.full((9, 64, 64, 3), 200 if number % 4 else 60, np.uint8)
        family = "bite" if number < 2 else "count"
        write_mp4(tmp_path / f"{number}.mp4", frames, 8)
        rows.append({"file": f"{number}.mp4", "prompt": f"a whole secret prompt {number}",
                     "family": family, "questions": list(asked)})  # fmt: skip
    write_rows(tmp_path / "prompts.jsonl", rows)

    def sees(question: Question) -> str:
        """Right about bites, and sure that every count is right."""
        if not question.pictures:
            return "no"
        return "yes" if brightness(question.pictures[0]) > 130 else "no"

    script = Script(sees)
    with serving(script) as url:
        base = ["run", "--level", "l2", "--videos", str(tmp_path), "--judge-url", url]
        arguments = [*base, "--judge", "good", "--planted", "2", "-o", str(tmp_path / "out")]
        assert physics(arguments) == 0
        report = json.loads((tmp_path / "out/report.json").read_text())
        calls = len(script.asked)
        assert physics(arguments) == 0
        assert len(script.asked) == calls, "every answer is remembered"
        script.answer = lambda question: "yes"
        biased = [*base, "--judge", "biased", "--planted", "2", "-o", str(tmp_path / "biased")]
        assert physics(biased) == 0
        few = [*base, "--judge", "x", "--planted", "0", "-o", str(tmp_path / "few")]
        assert physics(few) == 2
    assert "a fifth of all is needed" in capsys.readouterr().err
    assert report["totals"]["pcs"] == 0.75
    (judge,) = report["judges"]
    assert judge["control_calls"] / judge["calls"] >= level.CONTROL_SHARE
    assert all(f["admitted"] and f["specificity"] == 1.0 for f in judge["families"])
    assert "secret" not in str([q.text for q in script.asked]), "physics never shows the prompt"
    believed_none = json.loads((tmp_path / "biased/report.json").read_text())
    assert "pcs" not in believed_none["totals"]
    assert [f["specificity"] for f in believed_none["judges"][0]["families"]] == [0.0, 0.0]
    assert "judge not able" in (tmp_path / "biased/report.html").read_text()
    assert run.VIOLATIONS == "control"


def test_a_clip_passes_if_every_judge_passes_it() -> None:
    def view(passed: bool, note: str) -> Graded:
        case = Case("c", "bite", "p")
        outcome = Outcome("c", "bite", 0, "graded", True, True, passed)
        return Graded(Clip(case, 0, 0, None), outcome, "sha", {"note": note})

    (both,), (one,) = (
        level._together([[view(True, "a")], [view(passed, "b")]]) for passed in (True, False)
    )
    assert both.outcome.passed and not one.outcome.passed and one.outcome.semantic
    assert one.details == {"judges": [{"note": "a"}, {"note": "b"}]}
    assert level._together([[view(True, "a")]])[0].details == {"note": "a"}


def test_a_models_own_clips_stand_still_and_run_backwards_as_controls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip that gets darker is passed; frozen or backwards it is wrong, and is known as such. One
    that gets brighter is failed, and so no control backwards: that would be right."""
    monkeypatch.setattr(planted, "plant", lambda n: iter([wrong]))
    dark = np.full((9, 64, 64, 3), 20, np.uint8)
    wrong = planted.Planted("bite", Case("w", "bite", "", ({"outcome": "x"},)), dark, False, "")
    case = Case("c", "bite", "p", ({"change": "light", "more": "before"},))
    fading = np.repeat(np.linspace(220, 40, 9).astype(np.uint8), 64 * 64 * 3)
    fading = fading.reshape(9, 64, 64, 3)
    clips = []
    for number, frames in enumerate((fading, fading[::-1])):
        write_mp4(tmp_path / f"{number}.mp4", frames, 8)
        clips.append(Clip(case, number, 0, tmp_path / f"{number}.mp4"))
    clips.append(Clip(Case("d", "bite", "p", ({"outcome": "y"},)), 0, 0, tmp_path / "0.mp4"))

    def compares(question: Question) -> str:
        if len(question.pictures) != 2:
            return "no"
        a, b = map(brightness, question.pictures)
        return "same" if abs(a - b) < 3 else "a" if a > b else "b"

    with serving(Script(compares)) as url:
        tried = planted.try_judge(Judge(Endpoint(url, "m", tmp_path / "answers")), clips, 5)
    assert [item.how for item, _ in tried] == ["", "own, frozen", "own, reversed", "own, frozen"]
    assert not any(item.right or grade.physics for item, grade in tried[1:])


def test_questions_of_a_clip_are_put_at_once_if_that_is_asked_for(tmp_path: Path) -> None:
    """Two answers wait for each other: asked one by one, neither would come. Both are at first
    refused their log-probabilities, and no one concludes that pictures are too many."""
    together = threading.Barrier(2, timeout=60)

    def answer(question: Question) -> str:
        if question.text.startswith("Is this true"):
            together.wait()
        return "yes"

    case = Case("c", "f", "p", ({"outcome": "x"}, {"outcome": "y"}))
    with serving(Script(answer)) as url:
        endpoint = Endpoint(url, "m", tmp_path)
        grade = Judge(endpoint, parallel=2).grade(Clip(case, 0, 0, None), ramp(), FPS)
    assert grade.physics and not together.broken
    assert not endpoint.logprobs and not endpoint.as_sheet
    assert endpoint.calls == len(list(tmp_path.glob("*.json"))) == 6 + 3 + 2


def test_a_judge_that_is_away_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run.openai.OpenAI, "_calculate_retry_timeout", lambda *_, **__: 0.0)
    write_mp4(tmp_path / "0.mp4", ramp(), 8)
    row = {"file": "0.mp4", "prompt": "p", "family": "bite", "questions": [{"outcome": "x"}]}
    write_rows(tmp_path / "prompts.jsonl", [row])
    arguments = ["run", "--level", "l2", "--videos", str(tmp_path), "-o", str(tmp_path / "out")]
    assert physics([*arguments, "--judge-url", "http://127.0.0.1:9/v1", "--judge", "m"]) == 2
    assert "127.0.0.1:9/v1: Connection error. Run the same" in capsys.readouterr().err


def test_answers_from_the_cache_are_not_counted_as_made(tmp_path: Path) -> None:
    with serving(Script(lambda question: "yes")) as url:
        first, again = (Endpoint(url, "m", tmp_path) for _ in range(2))
        assert first.ask("Is it?") == again.ask("Is it?")
    assert (first.calls, first.tokens) == (1, 100) and (again.calls, again.tokens) == (0, 0)


def test_planted_controls_are_what_they_say() -> None:
    """Right and wrong clips of a pair differ where the corruption is, and a plea is legible."""
    pairs: dict[str, dict[bool, planted.Planted]] = {}
    for item in planted.plant(1):
        pairs.setdefault(item.family, {})[item.right] = item
    assert len(pairs) == 12
    for family, pair in pairs.items():
        assert pair[True].frames.shape == pair[False].frames.shape == (17, 512, 512, 3)
        assert (pair[True].frames != pair[False].frames).any(), family
        assert "{" not in str([list(q.values()) for q in pair[True].case.questions]), family
    plea = planted.plead(pairs["bite"][True].frames) != pairs["bite"][True].frames
    assert plea[:, 470:].any() and not plea[:, :470].any()


def test_spliced_and_pasted_controls_break_what_they_should() -> None:
    bite = planted.world.sample("bite", 5)
    clean, healed = planted.world.render(bite), planted.spliced(bite)
    assert (clean[:11] == healed[:11]).all() and (clean[-1] != healed[-1]).any()
    x, y = (int(v * 64) for v in bite.state["cookie"])
    assert (
        healed[-1, y - 3 : y + 4, x - 3 : x + 4] == clean[0, y - 3 : y + 4, x - 3 : x + 4]
    ).all()
    walk = planted.world.sample("walk", 5)
    clean, pasted = planted.world.render(walk), planted.pasted_limb(walk)
    assert (clean[:8] == pasted[:8]).all() and (clean[8:] != pasted[8:]).any((1, 2, 3)).all()
