"""The board in Markdown: whose rates stand where, and pictures that show what is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import world
from benchmarks.physics.board import CELL, is_held_out, one_of_each, stacked, write_board
from benchmarks.physics.cases import Case, Clip, case_scene
from benchmarks.physics.grading import Graded
from benchmarks.physics.report import build
from benchmarks.physics.scores import Outcome
from model.video import write_mp4


def item(folder: Path, index: int, passed: bool) -> Graded:
    """A clip of a ball that rolls, read with or without a fault in frame 5."""
    scene = case_scene("roll", index)
    case = Case(f"roll-{index:02d}", "roll", scene.caption)
    path = folder / f"{index}.mp4"
    write_mp4(path, world.render(scene), world.FPS, scale=2)
    outcome = Outcome(
        case.case_id, "roll", 0, "graded", True, True, passed, {"K1": 7.5 - 7 * passed}
    )
    frames = [] if passed else [5]
    return Graded(Clip(case, 0, 1, path), outcome, f"sha{index}", {"evidence_frames": frames})


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> list[Graded]:
    """Six clips, every second of a held-out combination; the first, second and fourth pass."""
    folder = tmp_path_factory.mktemp("clips")
    clips = [item(folder, index, index in (0, 1, 3)) for index in range(5)]
    case = Case("roll-05", "roll", case_scene("roll", 5).caption)
    lost = Clip(case, 0, 1, None, "refused", "the server said no")
    return [*clips, Graded(lost, Outcome("roll-05", "roll", 0, "refused"), None, {"reason": "no"})]


def report(graded: list[Graded]) -> dict[str, Any]:
    controls = {"ground truth": graded[:1]}
    return build("l0", "l0-digest", graded, {}, controls, None, (), frozenset({"roll"}))


def test_trained_and_held_out_combinations_are_counted_apart(
    graded: list[Graded], tmp_path: Path
) -> None:
    assert [is_held_out(f"roll-{n:02d}") for n in range(6)] == 3 * [False, True]
    write_board(report(graded), graded, "m", tmp_path / "board.md")
    text = (tmp_path / "board.md").read_text()
    assert "| **m** | 6 | 50.0 |" in text and "| ground truth | 1 | 100.0 |" in text
    assert (
        "Of 3 clips of combinations of colour, direction and background that training has, 1"
        in text
    )
    assert "Of 3 clips of combinations that are kept from training, 2 pass." in text
    assert "6 clips of 6 cases with 6 different prompts, 0 failed, 1 refused." in text
    again = replace(graded[1], clip=replace(graded[1].clip, case=replace(
        graded[1].clip.case, prompt=graded[0].clip.case.prompt)))  # fmt: skip
    write_board(report([graded[0], again]), [graded[0], again], "m", tmp_path / "two.md")
    assert "2 clips of 2 cases with 1 different prompts" in (tmp_path / "two.md").read_text()
    write_board(report(graded[:1]), graded[:1], "m", tmp_path / "one.md")
    text = (tmp_path / "one.md").read_text()
    assert "kept from training" not in text and "worst failures" not in text


def test_the_first_clip_of_a_family_is_shown_even_if_there_is_none(graded: list[Graded]) -> None:
    shown = np.asarray(one_of_each(graded))
    assert np.ptp(shown[14 : 14 + CELL, :CELL]) > 100, "a picture"
    missing = np.asarray(one_of_each(graded[5:]))
    assert (missing[14 : 14 + CELL, :CELL] == 220).all(), "a grey square"


def test_the_number_stands_in_the_frame_that_shows_the_fault(graded: list[Graded]) -> None:
    """Frame 5 of 12 out of 17 is in a red border with the number in white on red; no other is."""
    page = np.asarray(stacked([graded[2]]))[32:]
    height = page.shape[0] // 2
    cells = [page[r * height : (r + 1) * height, c * 120 : (c + 1) * 120]
             for r in range(2) for c in range(6)]  # fmt: skip
    red = [((cell == (230, 0, 60)).all(-1)).mean() for cell in cells]
    framed = [place for place, share in enumerate(red) if share > 0.05]
    assert len(framed) == 1
    corner = cells[framed[0]][-18:-5, 70:-5].astype(int)
    assert (corner == (230, 0, 60)).all(-1).sum() > 60 and (corner.min(-1) > 180).sum() > 10
