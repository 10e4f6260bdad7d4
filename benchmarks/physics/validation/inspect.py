"""`inspect`: put any clip to the detectors of a family."""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.physics import detectors
from benchmarks.physics.detectors import Verdict
from model.video import read_video

NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
TIMES = {1: "once", 2: "twice"}


def add_command(commands: Any) -> None:
    """Add `inspect` to a parser's commands."""
    parser = commands.add_parser("inspect", help="put a clip to the detectors of a family")
    parser.add_argument("clip", type=Path, help="a video file")
    parser.add_argument("--family", required=True, help="what the clip shows, such as bite")
    parser.add_argument("--expect", default="{}", help='slots as JSON: {"direction": "left"}')
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(command=command)


def command(args: argparse.Namespace) -> int:
    """Run `inspect`; 1 if the clip fails."""
    frames, fps = read_video(args.clip)
    expect = slots(args.expect)
    verdict = detectors.judge(detectors.read(frames, args.family, expect, fps))
    print(json.dumps(as_json(verdict)) if args.json else as_text(verdict))
    return 0 if verdict.passed else 1


def slots(text: str) -> dict[str, str]:
    """Slots from JSON; numbers become the words that captions have.

    Raises `ValueError` for what is no object of words and numbers, and for words no slot has.
    """
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"--expect is {text!r}; it must be JSON such as {{}}: {error}") from None
    if not isinstance(given, dict):
        raise ValueError(f"--expect is {text!r}; it must be an object of slots and words")
    return detectors.expectation({name: _word(name, value) for name, value in given.items()})


def _word(name: str, value: object) -> str:
    if isinstance(value, int):
        return (TIMES if name == "times" else NUMBERS).get(value, str(value))
    return str(value).lower()


def as_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON."""
    return {
        "measurable": verdict.measurable,
        "semantic": verdict.semantic,
        "physics": verdict.physics,
        "errors": {k: round(v, 4) for k, v in verdict.errors.items()},
        "figures": {k: v and round(v, 4) for k, v in verdict.figures.items()},
        "evidence_frames": verdict.evidence_frames,
        "reason": verdict.reason,
    }


def as_text(verdict: Verdict) -> str:
    """A verdict for people: what failed, and by how much of its bound."""
    if not verdict.measurable:
        return f"not measurable: {verdict.reason}"
    failed = [f"{name} {value:.2f}" for name, value in verdict.errors.items() if value > 1.0]
    marks = f"semantic {'yes' if verdict.semantic else 'no'}, physics " + (
        "yes" if verdict.physics else "no"
    )
    return f"{marks}; " + (
        f"failed, in parts of its bound: {', '.join(failed)}" if failed else "all hold"
    )
