"""The `kinetograph` command: serve, generate, examples, demo."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from serving.errors import ApiError
from serving.models import ALIASES, Description, resolve
from serving.progress import ProgressBar
from serving.schema import CreateVideo
from serving.settings import EMBEDDED_MODEL, Settings

OPTIONS = {
    "--size": "WIDTHxHEIGHT of the file, in pixels",
    "--seconds": "duration",
    "--num-frames": "duration in frames, in place of --seconds",
    "--fps": "frames a second at which they are shown",
    "--seed": "of the initial noise; random if not given",
    "--num-inference-steps": "steps of the sampler",
    "--guidance-scale": "how strongly the prompt is followed",
    "--guidance-scale-2": "the same for the second expert, where there is one",
    "--flow-shift": "above 1, more of the steps are spent at high noise",
    "--negative-prompt": "what guidance leads away from",
}
"""Options of `generate` that are fields of the API's request, checked by the same code."""
SHORT = {"--num-inference-steps": ["--steps"], "--guidance-scale": ["--guidance"]}


class Failure(Exception):
    """The command cannot do what was asked; the message says why, in a sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    args = _parser().parse_args(arguments)
    try:
        args.command(args)
    except (Failure, ApiError) as error:
        print(f"kinetograph: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def serve(args: argparse.Namespace) -> None:
    """Run the service until it is interrupted."""
    from serving import server

    try:
        server.serve(Settings(_folder(args.model), args.host, args.port, args.data))
    except server.CannotServe as error:
        raise Failure(str(error)) from None


def generate(args: argparse.Namespace) -> None:
    """Make one video in this process, without a service."""
    asked = {name: getattr(args, name) for name in CreateVideo.model_fields if name in args}
    request = CreateVideo.parse(asked | {"model": None})
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{args.output} cannot be written: {error.strerror}.") from None

    from model.pipeline import CheckpointError, Video
    from model.video import write_mp4
    from serving.worker import load, render

    try:
        pipeline = load(_folder(args.model))
    except CheckpointError as error:
        raise Failure(f"The model cannot be loaded: {error}") from None
    description = cast(Description, asdict(pipeline.description))
    if args.model not in (None, *ALIASES):
        request = request.model_copy(update={"model": description["name"]})
    resolved = resolve(request, [description])
    for warning in resolved.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    bar = ProgressBar()
    try:
        for event in render(pipeline, resolved):
            if isinstance(event, Video):
                write_mp4(args.output, event.frames, event.fps, scale=resolved.scale)
            else:
                bar.show(event.stage, event.step, event.steps)
    finally:
        bar.close()
    print(f"{args.output}: {resolved.size}, {resolved.seconds} s, seed {resolved.seed}")


def examples(args: argparse.Namespace) -> None:
    """Print what a model of a small world can draw."""
    folder = Path(_folder(args.model))
    if not folder.is_dir():
        raise Failure(f"There is no folder {folder}; examples are read from a local checkpoint.")
    file = folder / "examples.json"
    if not file.is_file():
        raise Failure(f"{folder} has no examples.json: its model is not limited to certain words.")
    known = json.loads(file.read_text("utf-8"))
    for title, lines in (
        ("Sentences", known["grammar"]),
        ("Words", [", ".join(sorted(known["words"]))]),
        ("Prompts to try", known["examples"]),
    ):
        print(f"{title}:", *(f"  {line}" for line in lines), "", sep="\n")


def demo(args: argparse.Namespace) -> None:
    """Start a service, have it make one video, and stop it."""
    from serving import demo

    try:
        demo.run(_folder(args.model), args.prompt, args.output)
    except demo.DemoFailed as error:
        raise Failure(str(error)) from None


def _folder(model: str | None) -> str:
    return EMBEDDED_MODEL if model is None or model in ALIASES else model


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kinetograph", description="Text to video.")
    commands = parser.add_subparsers(required=True, metavar="command")
    defaults = Settings()
    model_help = "checkpoint folder or hub id; the embedded model if not given"

    command = commands.add_parser("serve", help="run the REST API and its worker")
    command.set_defaults(command=serve)
    command.add_argument("--model", help=model_help)
    command.add_argument("--host", default=defaults.host)
    command.add_argument("--port", type=int, default=defaults.port, help="0: any free one")
    command.add_argument("--data", type=Path, default=defaults.data, help="where all is kept")

    command = commands.add_parser("generate", help="make one video, without a service")
    command.set_defaults(command=generate)
    command.add_argument("prompt")
    command.add_argument("-o", "--output", type=Path, default=Path("out.mp4"), help="MP4 to write")
    command.add_argument("--model", help=model_help)
    for option, text in OPTIONS.items():
        command.add_argument(option, *SHORT.get(option, []), help=text)

    command = commands.add_parser("examples", help="what the model can draw")
    command.set_defaults(command=examples)
    command.add_argument("--model", help="checkpoint folder")

    command = commands.add_parser("demo", help="start a service, make one video, stop it")
    command.set_defaults(command=demo)
    command.add_argument("--model", help=model_help)
    command.add_argument("--prompt", help="one of the model's examples if not given")
    command.add_argument("-o", "--output", type=Path, default=Path("out/demo.mp4"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
