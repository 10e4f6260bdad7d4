"""`validate`: hold the detectors to clips of known truth, and refuse to let bad ones judge."""

import argparse
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.physics.detectors.thresholds import digest
from benchmarks.physics.validation import gates as bounds
from benchmarks.physics.validation.gates import Gate
from benchmarks.physics.validation.journal import Journal
from benchmarks.physics.validation.nuisances import ROUND_TRIP
from benchmarks.physics.validation.statistics import (
    Breaks,
    by_treatment,
    corruption_rows,
    decoded_rows,
    detector_rows,
    smallest_caught,
)
from benchmarks.physics.validation.summary import write_summary
from benchmarks.physics.validation.trials import (
    CLEAN,
    FULL,
    NUISANCE,
    QUICK,
    SECOND_STYLE,
    Outcome,
    run,
    treatments,
)
from world.corruptions import CORRUPTIONS

HERE = Path(__file__).parent


def add_command(commands: Any) -> None:
    """Add `validate` to a parser's commands."""
    parser = commands.add_parser("validate", help="hold the detectors to clips of known truth")
    parser.add_argument("--out", type=Path, required=True, help="folder for report.json and more")
    parser.add_argument("--quick", action="store_true", help="40 clean clips a family, no curves")
    parser.add_argument("--first-seed", type=int, help="seeds from here on")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--families", nargs="+", help="these alone; all gates need all families")
    parser.set_defaults(command=command)


def command(args: argparse.Namespace) -> int:
    """Run `validate`; 1 if a gate falls."""
    plan = QUICK if args.quick else FULL
    first = first_seed(args.first_seed, plan.clean)
    work = treatments(plan, _yaml("severities.yaml"))
    if args.families:
        work = [item for item in work if item[0].family in args.families]
    print(f"{sum(count for _, count in work):,} clips at most, seeds from {first}", flush=True)
    with Journal(args.out / "outcomes.jsonl", first) as journal:
        report = summarise(run(work, first, args.processes, journal), args.quick)
    report |= {
        "schema": 1,
        "quick": args.quick,
        "first_seed": first,
        "thresholds_sha256": digest(),
        "seconds": round(journal.seconds, 1),
        "machine": f"{platform.machine()}, numpy {np.__version__}",
    }
    write(report, args.out)
    fallen = [gate["name"] for gate in report["gates"] if not gate["passed"]]
    print(f"{len(report['gates'])} gates, {len(fallen)} fell: {', '.join(fallen) or 'none'}")
    return 1 if fallen else 0


def first_seed(asked: int | None, clips: int) -> int:
    """Where to begin. Raises `ValueError` for seeds that the bounds were tuned on."""
    seeds = _yaml("seeds.yaml")
    first = seeds["validation"] if asked is None else asked
    begin, end = seeds["calibration"]
    if first < end and begin < first + 4 * clips:
        raise ValueError(
            f"seeds from {first} on were used to tune the bounds ({begin} to {end}); allowed are "
            f"those from {end} on"
        )
    return int(first)


def breaks() -> dict[str, Breaks]:
    """What each corruption breaks, as committed before the first validation."""
    listed = {}
    for name, law in _yaml("entailed.yaml").items():
        target = law["target"] if isinstance(law["target"], dict) else {"else": law["target"]}
        targets = {family: frozenset(names) for family, names in target.items()}
        listed[name] = Breaks(targets, frozenset(law.get("entailed", ())))
    return listed


def summarise(outcomes: Iterable[Outcome], quick: bool) -> dict[str, Any]:
    """The report's figures and gates."""
    groups = by_treatment(outcomes)
    nominal = {name: kind.nominal for name, kind in CORRUPTIONS.items()}
    rows = corruption_rows(groups, breaks())
    at_nominal = [row for row in rows if row["value"] == nominal[row["corruption"]]]
    gates: list[Gate] = []
    for treatment, found in groups.items():
        if treatment.kind in (CLEAN, SECOND_STYLE) or treatment.name == ROUND_TRIP:
            gates += bounds.clean_gates(found, quick)
    for row in at_nominal:
        gates += bounds.corruption_gates(row, quick)
    kept = [
        {
            "family": treatment.family,
            "kind": treatment.kind,
            "name": treatment.name,
            "value": treatment.value,
            "clips": len(found),
            "passed": sum(outcome.passed for outcome in found),
            "measurable": sum(outcome.measurable for outcome in found),
            "failed_seeds": [outcome.seed for outcome in found if not outcome.passed][:10],
        }
        for treatment, found in groups.items()
        if treatment.kind in (CLEAN, NUISANCE, SECOND_STYLE)
    ]
    return {
        "gates": bounds.as_json(gates),
        "detectors": detector_rows(groups, breaks(), nominal),
        "corruptions": rows,
        "decoded": decoded_rows(groups, breaks()),
        "smallest_caught": smallest_caught(rows),
        "robustness": kept,
    }


def write(report: dict[str, Any], folder: Path) -> None:
    """Write `report.json` and `README.md`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("report.json", json.dumps(report, indent=1, allow_nan=False) + "\n"),
        ("README.md", write_summary(report)),
    ):
        part = folder / f"{name}.part"
        part.write_text(text)
        part.replace(folder / name)


def _yaml(name: str) -> Any:
    return yaml.safe_load((HERE / name).read_text())
