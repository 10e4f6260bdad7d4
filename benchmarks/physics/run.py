"""`run`, `compare` and `prompts`: grade a server or a folder of clips, and set two side by side."""

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import openai

from benchmarks.physics import report as reports
from benchmarks.physics.board import write_board
from benchmarks.physics.cases import (
    REPEATS,
    Case,
    Clip,
    case_of,
    read_folder,
    read_rows,
    rows,
    spread,
    suite,
    write_rows,
)
from benchmarks.physics.client import Server, ServerGone, generate
from benchmarks.physics.controls import write_controls
from benchmarks.physics.grading import Graded, grade_all
from benchmarks.physics.importers import SUITES
from benchmarks.physics.l2.endpoint import Endpoint
from benchmarks.physics.l2.judge import Judge
from benchmarks.physics.l2.level import CONTROLS_PER_FAMILY, Judged, judge_clips
from benchmarks.physics.levels import Diagnostics, World
from benchmarks.physics.paired import ALPHA, Comparison
from benchmarks.physics.paired import compare as compare_passes
from benchmarks.physics.report import trust
from benchmarks.physics.report.page import write_page
from benchmarks.physics.scores import by_case

VIOLATIONS = "control"
"""The family of open-world prompts that ask for what physics forbids; it is no part of PCS."""

AGAIN = "Run the same command again to go on where it stopped."

Fields = dict[str, Any]


class Unusable(Exception):
    """What was asked cannot be done; the message says why, in a sentence."""


def prompts(args: argparse.Namespace) -> int:
    """Write the prompts of a level or of another suite as a file for `kinetograph generate`."""
    if args.importer:
        cases = SUITES[args.importer](_needed(args.path, "--path"))
    else:
        cases = suite(args.level)
    chosen = spread(cases, args.limit)
    repeats = args.repeats or REPEATS[args.level]
    write_rows(args.output, rows(chosen, repeats))
    print(f"{args.output}: {len(chosen)} cases, {len(chosen) * repeats} clips")
    return 0


def run(args: argparse.Namespace) -> int:
    """Collect the clips, grade them, and write the report."""
    if (args.videos is None) == (args.base_url is None):
        raise Unusable("give either --base-url, for a server, or --videos, for a folder of clips")
    if args.board and args.level != "l0":
        raise Unusable(f"--board is for level l0, not {args.level}")
    folder, source = _clips(args)
    clips = _limited(read_folder(folder), args.limit)
    cases = list({clip.case.case_id: clip.case for clip in clips}.values())
    validation = _validation(args)
    begun = time.perf_counter()
    digest, judged, baselines = _graded(args, clips, cases)
    print(f"graded {len(clips)} clips of {len(cases)} cases in {time.perf_counter() - begun:.0f} s")
    graded, judges, able = judged
    report = reports.build(args.level, digest, graded, source, baselines, validation, judges, able)
    name = args.name or args.model or folder.resolve().name
    reports.write_json(report, args.output / "report.json")
    reports.write_csv(report, args.output / "cases.csv")
    write_page(report, graded, name, validation, args.output / "report.html")
    if args.board:
        write_board(report, graded, name, args.board)
    _say(report, args.output)
    return 0


def _clips(args: argparse.Namespace) -> tuple[Path, Fields]:
    """The folder that holds the clips, made by a server if one is given, and where from."""
    args.output.mkdir(parents=True, exist_ok=True)
    if args.videos:
        return args.videos, {"videos": args.videos.resolve().name}
    server = Server(
        args.base_url, args.model, args.params, send_seed=not args.no_seed, timeout=args.timeout
    )
    if args.prompts:
        table = read_rows(args.prompts)
        kept = _kept(map(case_of, table), args.limit)
        table = [row for row in table if str(row["case_id"]) in kept]
    else:
        repeats = args.repeats or REPEATS[args.level]
        table = rows(spread(suite(args.level), args.limit), repeats)
    folder = args.output / "clips"
    try:
        generate(server, table, folder, args.parallel)
    except ServerGone as error:
        raise Unusable(f"{error} {AGAIN}") from None
    url = reports.redacted(args.base_url)
    return folder, {"base_url": url, "model": args.model, "params": args.params}


def _limited(clips: Sequence[Clip], limit: int | None) -> list[Clip]:
    kept = _kept((clip.case for clip in clips), limit)
    chosen = [clip for clip in clips if clip.case.case_id in kept]
    missing = sum(clip.path is None for clip in chosen)
    print(f"{len(kept)} cases, {len(chosen)} clips to grade, {missing} of them not there")
    return chosen


def _kept(cases: Iterable[Case], limit: int | None) -> set[str]:
    each = {case.case_id: case for case in cases}
    return {case.case_id for case in spread(list(each.values()), limit)}


def _graded(
    args: argparse.Namespace, clips: Sequence[Clip], cases: Sequence[Case]
) -> tuple[str, Judged, dict[str, list[Graded]]]:
    """What the level says of the clips, and of clips whose quality is known."""
    cache = args.output / "grades"
    if args.level == "l2":
        judges = _judges(args)
        try:
            judged = judge_clips(judges, clips, args.planted, cache, print)
        except openai.APIError as error:
            raise Unusable(f"{args.judge_url}: {error.message} {AGAIN}") from None
        asked_for = [g for g in judged.graded if g.clip.case.family == VIOLATIONS]
        baselines = {"violations that were asked for": asked_for} if asked_for else {}
        return "+".join(judge.digest for judge in judges), judged, baselines
    if args.level == "l1":
        diagnostics = Diagnostics()
        graded = grade_all(clips, diagnostics, cache, print)
        return diagnostics.digest, Judged(graded, [], frozenset()), {}
    world = World()
    world.check(cases)
    graded = grade_all(clips, world, cache, print)
    baselines = {
        name: grade_all(read_folder(place), world, cache, partial(print, f"{name}:"))
        for name, place in write_controls(cases, args.output / "controls")
    }
    return world.digest, Judged(graded, [], frozenset(case.family for case in cases)), baselines


def _judges(args: argparse.Namespace) -> list[Judge]:
    if not (args.judge_url and args.judge):
        raise Unusable("level l2 needs --judge-url and --judge: an endpoint and its model")
    answers = args.output / "answers"
    return [Judge(Endpoint(args.judge_url, model, answers), args.parallel) for model in args.judge]


def _validation(args: argparse.Namespace) -> Fields | None:
    if args.validation is None:
        return trust.committed() if args.level == "l0" else None
    found: Fields = json.loads(args.validation.read_text("utf-8"))
    trust.check(found)
    return found


def _say(report: Fields, folder: Path) -> None:
    totals = report["totals"]
    if "pcs" in totals:
        rates = [("this model", totals), *((b["name"], b) for b in report["baselines"])]
        for name, found in rates:
            low, high = (100 * end for end in found["interval"])
            print(
                f"{name:24} PCS {100 * found['pcs']:5.1f} ({low:.1f} to {high:.1f})  "
                f"PMR {100 * found['pmr']:5.1f}  {found['clips']} clips"
            )
    print(f"{folder / 'report.html'}")


def compare(args: argparse.Namespace) -> int:
    """Print the paired test of two reports; 1 if the second is worse, at 5 %."""
    result = compare_reports(*(json.loads(path.read_text("utf-8")) for path in (args.a, args.b)))
    a, b, gap = 100 * result.a, 100 * result.b, 100 * result.difference
    low, high = (100 * end for end in result.interval)
    print(
        f"A {a:.1f}, B {b:.1f}: {gap:+.1f} points ({low:+.1f} to {high:+.1f}), p = {result.p:.4f}"
    )
    if result.mcnemar is not None:
        print(f"McNemar's exact test over single clips: p = {result.mcnemar:.4f}")
    print(f"smallest difference seen 4 times in 5: {100 * result.detectable:.1f} points")
    for name, family in result.families.items():
        gap = 100 * family.difference
        print(f"  {name:14} {gap:+6.1f}  p = {family.p:.4f}, {family.p_holm:.4f} after Holm")
    if args.output:
        reports.write_json(asdict(result), args.output)
    return int(result.p < ALPHA and result.difference < 0)


def compare_reports(a: Fields, b: Fields) -> Comparison:
    """Compare two reports of the same suite. Raises `ValueError` if they do not pair up."""
    for name in ("level", "suite_digest"):
        if a[name] != b[name]:
            raise ValueError(f"{name} is {a[name]} in A and {b[name]} in B; grade both alike")
    keys = [{(c["case_id"], c["repeat"], c["prompt"]) for c in r["cases"]} for r in (a, b)]
    if odd := sorted(keys[0] ^ keys[1]):
        raise ValueError(f"{len(odd)} clips are in one report only, such as {odd[0]}")
    tables = []
    for report in (a, b):
        found: dict[str, list[tuple[str, float]]] = {}
        for case in sorted(report["cases"], key=lambda c: (c["case_id"], c["repeat"])):
            found.setdefault(case["family"], []).append((case["case_id"], float(case["passed"])))
        tables.append({family: by_case(values) for family, values in found.items()})
    return compare_passes(*tables)


def _needed(value: Path | None, option: str) -> Path:
    if value is None:
        raise Unusable(f"{option} is missing")
    return value


def add_commands(commands: Any) -> None:
    """Add `prompts`, `run` and `compare` to a parser's commands."""
    command = commands.add_parser("prompts", help="write a prompts file")
    command.set_defaults(command=prompts)
    command.add_argument("--level", choices=list(REPEATS), default="l0")
    command.add_argument("--from", dest="importer", choices=list(SUITES), help="another suite")
    command.add_argument("--path", type=Path, help="that suite's file")
    command.add_argument("--limit", type=int, help="so many cases, one of each family in turn")
    command.add_argument("--repeats", type=int, help="clips a case")
    command.add_argument("-o", "--output", type=Path, required=True)

    command = commands.add_parser("run", help="grade a server or a folder of clips")
    command.set_defaults(command=run)
    command.add_argument("--level", choices=list(REPEATS), default="l0")
    command.add_argument("--base-url", help="of any /v1/videos server: http://host:8000/v1")
    command.add_argument("--model", help="what to ask the server for")
    command.add_argument("--params", type=json.loads, default={}, help="JSON sent with each prompt")
    command.add_argument("--no-seed", action="store_true", help="for servers that take none")
    command.add_argument(
        "--parallel", type=int, default=1, help="clips, or a judge's questions, at a time"
    )
    command.add_argument("--timeout", type=float, default=3600, help="seconds a clip may take")
    command.add_argument("--prompts", type=Path, help="a prompts file in place of the level's own")
    command.add_argument("--videos", type=Path, help="a folder of MP4s with prompts.jsonl")
    command.add_argument("--limit", type=int, help="so many cases, one of each family in turn")
    command.add_argument("--repeats", type=int, help="clips a case")
    command.add_argument("--judge-url", help="OpenAI-compatible chat endpoint, for level l2")
    command.add_argument("--judge", action="append", help="its model; twice for two judges")
    command.add_argument(
        "--planted",
        type=int,
        default=CONTROLS_PER_FAMILY,
        help="controls a family, right and wrong",
    )
    command.add_argument("--name", help="what the report calls the model")
    command.add_argument(
        "--validation",
        type=Path,
        help="report.json of `validate` (default: the one in docs/results)",
    )
    command.add_argument("--board", type=Path, help="Markdown to write, for level l0")
    command.add_argument("-o", "--output", type=Path, required=True, help="folder of the report")

    command = commands.add_parser("compare", help="is B better than A? a paired test")
    command.set_defaults(command=compare)
    command.add_argument("a", type=Path, help="report.json")
    command.add_argument("b", type=Path, help="report.json")
    command.add_argument("-o", "--output", type=Path, help="JSON to write")
