"""Prompt lists in the forms that their authors publish, and files that are none of them."""

import csv
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from benchmarks.physics.importers import physics_iq, vbench_2, videoscience


def test_physics_iq_is_a_case_for_each_view(tmp_path: Path) -> None:
    """`descriptions/descriptions_original.csv` of the repository, whose 396 lines are of 198 videos
    to generate, of two takes each; text with commas is quoted."""
    path = tmp_path / "descriptions.csv"
    columns = ["scenario", "description", "category", "generated_video_name"]
    text = "A ramp, propped up. Static shot with no camera movement."
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for number, view in enumerate(("left", "center", "right"), 19):
            ball = "trimmed-ball-ramp.mp4"
            for take, first in ((1, 0), (2, 198)):
                name = f"{first + number:04d}_perspective-{view}"
                scenario = f"{name}_take-{take}_{ball}"
                writer.writerow([scenario, text, "Solid Mechanics", f"{name}_{ball}"])
    cases = physics_iq(path)
    assert [c.case_id for c in cases] == [
        f"{n:04d}_perspective-{v}_trimmed-ball-ramp"
        for n, v in ((19, "left"), (20, "center"), (21, "right"))
    ]
    assert {(c.family, c.prompt) for c in cases} == {("Solid Mechanics", text)}


def test_vbench_2_keeps_dimensions_and_yes_or_no_questions(tmp_path: Path) -> None:
    """`VBench2_full_info.json` has lists of dimensions, `meta_info/*.json` one name."""
    path = tmp_path / "info.json"
    ask = ["Does the ball fall? (yes or no)", "Does the ball bounce back? (yes or no)"]
    table = [
        {"prompt_en": "Garden, zoom in.", "dimension": ["Camera_Motion"],
         "auxiliary_info": "zoom_in"},
        {"prompt_en": "A ball is dropped.", "dimension": ["Mechanics", "Diversity"],
         "auxiliary_info": ask},
        {"prompt_en": "A dog sits, then runs.", "dimension": "Motion_Order_Understanding",
         "auxiliary_info": ["sitting", "running"]},
    ]  # fmt: skip
    path.write_text(json.dumps(table))
    cases = vbench_2(path)
    assert [c.case_id for c in cases] == [
        "Camera_Motion-000", "Mechanics-000", "Diversity-000", "Motion_Order_Understanding-000"
    ]  # fmt: skip
    assert cases[1].questions == cases[2].questions
    assert [q["question"] for q in cases[1].questions] == [
        "Does the ball fall?", "Does the ball bounce back?"
    ]  # fmt: skip
    assert not cases[0].questions and not cases[3].questions


@pytest.mark.parametrize("name", ["data_filtered.jsonl", "train-00000-of-00001.parquet"])
def test_videoscience_asks_for_the_expected_phenomenon(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    row = {"keywords": ["Inertia"], "field": "Physics", "prompt": "A card is flicked away.",
           "expected phenomenon": "The coin drops into the glass.", "vid": "7"}  # fmt: skip
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) + "\n")
    (case,) = videoscience(path)
    assert (case.case_id, case.family, case.prompt) == (
        "vid_007", "Physics", "A card is flicked away."
    )  # fmt: skip
    assert case.questions == ({"outcome": "The coin drops into the glass."},)


@pytest.mark.parametrize("reader", [vbench_2, videoscience])
def test_another_file_is_refused_with_what_it_lacks(reader, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "file"
    path.write_text('{"prompt_en": 1}' if reader is videoscience else '[{"prompt": 1}]')
    with pytest.raises(ValueError, match="entry 1 has no 'prompt"):
        reader(path)
