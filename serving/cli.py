"""The `kinetograph` command, of which `kinetograph --help` names the parts."""

import argparse
import dataclasses
import json
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from serving import cli_keys, cli_models, cli_webhooks, given, prompts
from serving.catalog import CatalogError
from serving.cli_actions import CannotDo
from serving.errors import ApiError
from serving.keys import BadKey
from serving.models import ALIASES
from serving.progress import ProgressBar
from serving.resolved import Description, shortest_decimal
from serving.schema import CreateVideo
from serving.settings import EMBEDDED_MODEL, Settings, options
from serving.storyboard import resolve

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
    except (Failure, ApiError, CatalogError, BadKey, CannotDo, given.CannotRead) as error:
        print(f"kinetograph: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def serve(args: argparse.Namespace) -> None:
    """Run API and workers until they are interrupted."""
    from serving import server

    try:
        server.serve(_settings(args))
    except server.CannotServe as error:
        raise Failure(str(error)) from None


def api(args: argparse.Namespace) -> None:
    """Run the API alone until it is interrupted."""
    from serving import server

    try:
        server.serve_api(_settings(args))
    except server.CannotServe as error:
        raise Failure(str(error)) from None


def worker(args: argparse.Namespace) -> None:
    """Run one worker until it is interrupted."""
    settings = _settings(args)
    settings.data.mkdir(parents=True, exist_ok=True)
    from serving import slot

    try:
        slot.run(settings, args.slot or f"{socket.gethostname()}-{settings.device or 0}")
    except slot.CannotWork as error:
        raise Failure(str(error)) from None


def generate(args: argparse.Namespace) -> None:
    """Make one video in this process, or one of each line of a file, without a service."""
    fields = CreateVideo.model_fields.keys() - given.NAMES
    asked = {name: getattr(args, name) for name in fields if name in args} | {"model": None}
    try:
        rows = prompts.read(args.prompts) if args.prompts else []
    except (OSError, ValueError) as error:
        raise Failure(str(error)) from None
    request = None if args.prompts else CreateVideo.parse(asked)
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(f"{args.output} cannot be written: {error.strerror}.") from None

    from model.pipeline import CheckpointError, RequestError, Video
    from model.video import read_video, recording, retime
    from serving.worker import load, render

    try:
        pipeline = load(_folder(args.model))
    except CheckpointError as error:
        raise Failure(f"The model cannot be loaded: {error}") from None
    description = cast(Description, asdict(pipeline.description))
    # What a video starts from is the pipeline's to check, which knows all that may be given here.
    description["capabilities"] = [*description["capabilities"], "text"]

    def make(request: CreateVideo, output: Path) -> None:
        if args.model not in (None, *ALIASES):
            request = request.model_copy(update={"model": description["name"]})
        resolved = replace(resolve(request, [description]), strength=args.strength)
        conditions = given.read(args, lambda path: retime(*read_video(path), resolved.fps))
        for warning in resolved.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        bar = ProgressBar()
        try:
            with recording(output, resolved.fps, resolved.scale) as sink:
                for event in render(pipeline, resolved, sink=sink, **conditions):
                    if isinstance(event, Video):
                        seconds = shortest_decimal(len(event.frames) / event.fps)
                    else:
                        bar.show(event.stage, event.step, event.steps)
        finally:
            bar.close()
        print(f"{output}: {resolved.size}, {seconds} s, seed {resolved.seed}")

    if request is None:
        prompts.write_folder(rows, args.output, make, asked)
        return
    try:
        make(request, args.output)
    except RequestError as error:
        raise Failure(f"{error}.") from None


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


def verify(args: argparse.Namespace) -> None:
    """Say who made a video, by the manifest that it carries."""
    from serving.intake import Unfit
    from serving.intake.jail import JAIL

    try:
        anchors = args.authority or Settings(data=args.data).anchors
        trusted = anchors.read_text("ascii") if anchors.is_file() else ""
        with args.file.open("rb") as file:
            told = JAIL.verify(file, trusted)
    except OSError as error:
        raise Failure(f"{error.filename} cannot be read: {error.strerror}.") from None
    except Unfit as error:
        raise Failure(f"{args.file} must be {error}.") from None
    for name, value in told.items():
        if value is not None:
            print(f"{name}: {value}")
    if told["verdict"] != "trusted":
        raise Failure(f"{args.file} is not known to be made here: {told['verdict']}.")


def demo(args: argparse.Namespace) -> None:
    """Start a service, have it make one video, and stop it."""
    from serving import demo

    try:
        demo.run(_folder(args.model), args.prompt, args.output)
    except demo.DemoFailed as error:
        raise Failure(str(error)) from None


def _settings(args: argparse.Namespace) -> Settings:
    names = [field.name for field in dataclasses.fields(Settings) if field.name in args]
    given = {name: getattr(args, name) for name in names}
    given |= {"model": EMBEDDED_MODEL} if given.get("model") in ALIASES else {}
    try:
        return Settings(**given)
    except ValidationError as error:
        problem = error.errors()[0]
        text = problem["msg"].replace("Input should be", "must be").removeprefix("Value error, ")
        option = "".join(f"--{name} ".replace("_", "-") for name in problem["loc"])
        raise Failure(f"{option}{text}.") from None


def _folder(model: str | None) -> str:
    return EMBEDDED_MODEL if model is None or model in ALIASES else model


class _WithDefaults(argparse.HelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default not in (None, argparse.SUPPRESS)
        return f"{action.help} (default: %(default)s)" if shown else action.help


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kinetograph", description="Text to video.")
    commands = parser.add_subparsers(required=True, metavar="command")
    model_help = "checkpoint folder or hub id; the embedded model if not given"

    for name, function, text in (
        ("serve", serve, "run the REST API and its workers"),
        ("api", api, "run the REST API alone"),
        ("worker", worker, "run one worker, for an API on this machine or another"),
    ):
        command = commands.add_parser(name, help=text, formatter_class=_WithDefaults)
        command.set_defaults(command=function)
        for option, setting in options(name).items():
            command.add_argument(option, default=setting.default, help=setting.description)
        if name == "worker":
            slot = "name of its place, held by one worker at a time (default: host and device)"
            command.add_argument("--slot", help=slot)

    cli_models.register(commands, Settings().models_dir)
    cli_keys.register(commands, Settings())
    cli_webhooks.register(commands, Settings())

    command = commands.add_parser("generate", help="make one video, without a service")
    command.set_defaults(command=generate)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("prompt", nargs="?")
    what.add_argument("--prompts", type=Path, help="JSON lines, a prompt each: fills a folder")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("out.mp4"), help="MP4 to write, or the folder"
    )
    command.add_argument("--model", help=model_help)
    for option, text in OPTIONS.items():
        command.add_argument(option, *SHORT.get(option, []), help=text)
    given.register(command)

    command = commands.add_parser("examples", help="what the model can draw")
    command.set_defaults(command=examples)
    command.add_argument("--model", help="checkpoint folder")

    command = commands.add_parser("verify", help="who made a video, by its C2PA manifest")
    command.set_defaults(command=verify)
    command.add_argument("file", type=Path)
    command.add_argument("--data", type=Path, default=Settings().data, help="as of the service")
    command.add_argument("--authority", type=Path, help="PEM of another authority to be trusted")

    command = commands.add_parser("demo", help="start a service, make one video, stop it")
    command.set_defaults(command=demo)
    command.add_argument("--model", help=model_help)
    command.add_argument("--prompt", help="one of the model's examples if not given")
    command.add_argument("-o", "--output", type=Path, default=Path("out/demo.mp4"))
    return parser


if __name__ == "__main__":
    sys.exit(main())
