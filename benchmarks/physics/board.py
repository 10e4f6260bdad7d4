"""A model's board: its scores beside the control rows, in Markdown, with its pictures."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.physics.cases import case_scene
from benchmarks.physics.grading import Graded
from benchmarks.physics.report import sheets
from benchmarks.physics.scores import by_family
from model.video import read_video
from world import HELD_OUT
from world.scene import combination
from world.sheet import contact_sheet

Fields = dict[str, Any]
CELL, STRIDE = 96, 2
FAILURES = 6


def write_board(report: Fields, graded: Sequence[Graded], name: str, path: Path) -> None:
    """Write a Markdown page and two pictures beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clips, failures = (path.with_name(f"{path.stem}-{kind}.png") for kind in ("clips", "failures"))
    one_of_each(graded).save(clips)
    worst = sheets.worst(graded, FAILURES)
    if worst:
        stacked(worst).save(failures)
    part = path.with_name(f".{path.name}.part")
    part.write_text(_page(report, name, clips.name, failures.name if worst else None), "utf-8")
    os.replace(part, path)


def _page(report: Fields, name: str, clips: str, failures: str | None) -> str:
    totals = report["totals"]
    lines = [
        f"# The board: {name}",
        "",
        "Physical consistency (PCS) is the share of clips that can be measured, show what the "
        "prompt says and obey physics, averaged over families; PMR is the share that can be "
        "measured. Clips that failed or were refused count as not passed. What the numbers can "
        "and cannot say is in [physics.md](physics.md).",
        "",
        "| | clips | PCS | 95 % interval | PMR |",
        "|---|---|---|---|---|",
        _row(f"**{name}**", totals),
        *(_row(baseline["name"], baseline) for baseline in report["baselines"]),
        "",
        f"{totals['clips']} clips of {totals['cases']} cases with "
        f"{len({case['prompt'] for case in report['cases']})} different prompts, "
        f"{totals['failed']} failed, {totals['refused']} refused. {_by_combination(report)}",
        "",
        "## Families",
        "",
        "| family | clips | PCS | 95 % interval | measurable | means it | obeys |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {f['name'].replace('_', ' ')} | {f['clips']} | {100 * f['pcs']:.0f} | {_ends(f)} | "
            f"{100 * f['pmr']:.0f} | {100 * f['semantic']:.0f} | {100 * f['physics']:.0f} |"
            for f in report["families"]
        ),
        "",
        "The first clip of each family, and what the detectors say of it:",
        "",
        f"![The first clip of each family]({clips})",
        "",
    ]
    if failures:
        lines += [
            "The worst failures, one of a family. Outlines and tracks are what was read; red "
            "frames show the fault, one of them with the worst number:",
            "",
            f"![The worst failures]({failures})",
            "",
        ]
    host = report["host"]
    lines += [
        f"Graded {report['date'][:10]} by suite `{report['suite_digest'][:15]}`, commit "
        f"`{(host['commit'] or 'none')[:10]}`, OpenCV {host['opencv']}, NumPy {host['numpy']}. "
        "`make board MODEL=…`, with the folder of the model, makes and grades it anew.",
        "",
    ]
    return "\n".join(lines)


def _row(name: str, scores: Fields) -> str:
    return (
        f"| {name} | {scores['clips']} | {100 * scores['pcs']:.1f} | {_ends(scores)} | "
        f"{100 * scores['pmr']:.1f} |"
    )


def _ends(scores: Fields) -> str:
    low, high = scores["interval"]
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _by_combination(report: Fields) -> str:
    passed: dict[bool, list[bool]] = {}
    for case in report["cases"]:
        passed.setdefault(is_held_out(case["case_id"]), []).append(case["passed"])
    return "".join(
        f"Of {len(passed[held_out])} clips of combinations {words}, {sum(passed[held_out])} pass. "
        for held_out, words in (
            (False, "of colour, direction and background that training has"),
            (True, "that are kept from training"),
        )
        if held_out in passed
    ).rstrip()


def is_held_out(case_id: str) -> bool:
    """Whether a case of the world is of a combination that is kept from training."""
    family, _, index = case_id.rpartition("-")
    scene = case_scene(family, int(index))
    return combination(family, scene.slots) in HELD_OUT[family]


def one_of_each(graded: Sequence[Graded]) -> Image.Image:
    """Every second frame of each family's first clip, under its prompt and its verdict."""
    by_clip = {id(item.outcome): item for item in graded}
    rows = []
    for outcomes in by_family([item.outcome for item in graded]).values():
        item = by_clip[id(outcomes[0])]
        said = sheets.failing_number(item, 1) if item.clip.path else item.details["reason"]
        rows.append((f"{item.clip.case.prompt}: {said}", _small(item)))
    return contact_sheet(rows, scale=1, stride=STRIDE)


def _small(item: Graded) -> NDArray[np.uint8]:
    if item.clip.path is None or item.outcome.status != "graded":
        return np.full((1, CELL, CELL, 3), 220, np.uint8)
    frames, _ = read_video(item.clip.path)
    size = (CELL, CELL)
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])


def stacked(graded: Sequence[Graded]) -> Image.Image:
    """Sheets below each other, the prompt and the failing number above each."""
    pictures = [sheets.sheet(item) for item in graded]
    step = max(picture.height for picture in pictures) + 34
    page = Image.new("RGB", (pictures[0].width, step * len(pictures)), "white")
    pen = ImageDraw.Draw(page)
    for number, (item, picture) in enumerate(zip(graded, pictures, strict=True)):
        pen.text((2, number * step + 3), item.clip.case.prompt, fill="black")
        pen.text((2, number * step + 17), sheets.failing_number(item), fill=sheets.FAILED)
        page.paste(picture, (0, number * step + 32))
    return page
