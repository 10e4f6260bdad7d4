"""The prompts of a suite, and the folder of clips that a model made of them.

A case is a prompt with a name; it is asked for several times, each with its own seed. A folder of
clips holds MP4s and `prompts.jsonl`, a line a clip: `file`, `prompt`, `case_id`, `repeat`, `seed`,
and `family` and `questions` where the prompt alone does not tell them. A clip that could not be
made has a `status` (failed or refused) and an `error` in place of its `file`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

import world
from serving import prompts
from world import captions

PROMPTS = Path(__file__).parent / "prompts"
CASES_PER_FAMILY = 8
FIRST_SEED = 2_000_000
"""Worlds of the suite have seeds from here on; training and validation have smaller ones."""
REPEATS = {"l0": 2, "l1": 4, "l2": 4}

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A prompt, the family that it is counted in, and what to ask a judge about its clips."""

    case_id: str
    family: str
    prompt: str
    questions: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Clip:
    """One clip that was asked for; `path` is None where there is none, and `error` says why."""

    case: Case
    repeat: int
    seed: int | None
    path: Path | None
    status: Literal["made", "failed", "refused"] = "made"
    error: str = ""


def world_cases(per_family: int = CASES_PER_FAMILY) -> list[Case]:
    """Prompts of the procedural world, every second one a combination kept from training."""
    return [
        Case(f"{family}-{index:02d}", family, case_scene(family, index).caption)
        for family in world.FAMILIES
        for index in range(per_family)
    ]


def case_scene(family: str, index: int) -> world.Scene:
    """The scene that a case of the world is the caption of."""
    held_out = index % 2 == 1 and bool(world.HELD_OUT.get(family))
    return world.sample(family, FIRST_SEED + index, held_out=held_out)


def open_world_cases() -> list[Case]:
    """Prompts about the real world, which only a judge that sees can grade."""
    rows = yaml.safe_load((PROMPTS / "open_world.yaml").read_text("utf-8"))
    return [Case(row["id"], row["family"], row["prompt"], tuple(row["questions"])) for row in rows]


def suite(level: str) -> list[Case]:
    """The prompts that a level grades when none are given."""
    return world_cases() if level == "l0" else open_world_cases()


def spread(cases: Sequence[Case], limit: int | None) -> list[Case]:
    """The first `limit` cases, one of each family in turn."""
    families: dict[str, list[Case]] = {}
    for case in cases:
        families.setdefault(case.family, []).append(case)
    turns = [(i, rank, c) for rank, f in enumerate(families.values()) for i, c in enumerate(f)]
    return [case for _, _, case in sorted(turns, key=lambda turn: turn[:2])][:limit]


def rows(cases: Iterable[Case], repeats: int) -> list[Row]:
    """What to ask of a model: each case so often, with seeds that hang on its name alone."""
    return [
        {"prompt": case.prompt, "case_id": case.case_id, "repeat": repeat}
        | {"seed": int.from_bytes(hashlib.sha256(case.case_id.encode()).digest()[:3]) + repeat}
        | {"family": case.family}
        | ({"questions": list(case.questions)} if case.questions else {})
        for case in cases
        for repeat in range(repeats)
    ]


def read_rows(path: Path) -> list[Row]:
    """The lines of a prompts file. Raises `ValueError` naming the line and what is wrong."""
    table = prompts.read(path)
    if not table:
        raise ValueError(f"{path} has no lines; each is an object with a prompt.")
    return [{"case_id": row["prompt"], "repeat": 0, "seed": None} | row for row in table]


def write_rows(path: Path, table: Sequence[Row]) -> None:
    """Write a prompts file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prompts.write(path, table)


def read_folder(folder: Path) -> list[Clip]:
    """The clips of a folder, those that could not be made included.

    Raises `ValueError` if there is no `prompts.jsonl`, or two lines are of one case and repeat.
    """
    listing = folder / "prompts.jsonl"
    if not listing.is_file():
        raise ValueError(f"{listing} is missing; it says which prompt each file was made from")
    clips = [_clip(row, folder) for row in read_rows(listing)]
    seen: set[tuple[str, int]] = set()
    for clip in clips:
        key = (clip.case.case_id, clip.repeat)
        if key in seen:
            raise ValueError(f"{listing}: case_id {key[0]!r} has repeat {key[1]} twice")
        seen.add(key)
    return clips


def case_of(row: Row) -> Case:
    """The case of a line; a sentence of the world tells its family itself."""
    parsed = captions.parse(row["prompt"])
    family = row.get("family") or (parsed or {}).get("family", "open")
    return Case(str(row["case_id"]), family, row["prompt"], tuple(row.get("questions", ())))


def _clip(row: Row, folder: Path) -> Clip:
    case = case_of(row)
    repeat, seed = int(row["repeat"]), row["seed"]
    if not row.get("file"):
        status: Literal["failed", "refused"] = (
            "refused" if row.get("status") == "refused" else "failed"
        )
        return Clip(case, repeat, seed, None, status, row.get("error", "no file"))
    path = folder / row["file"]
    if not path.is_file():
        return Clip(case, repeat, seed, None, "failed", f"{row['file']} is missing")
    return Clip(case, repeat, seed, path)
