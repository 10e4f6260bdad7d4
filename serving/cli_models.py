"""`kinetograph models`: which models a service offers, shown and added to."""

import argparse
from pathlib import Path
from typing import Any

from serving import catalog
from serving.cli_actions import add, show


def register(commands: Any, models_dir: Path) -> None:
    """Add the command to argparse's `commands`; `models_dir` is where files are by default."""
    parsers = add(commands, "models", "the models of a service", list_models, add_model)
    for parser in parsers:
        parser.add_argument(
            "--models-dir", type=Path, default=models_dir, help="folder of the models' YAML files"
        )
    parsers[1].add_argument("name", help="by which requests ask for it")
    parsers[1].add_argument("path", help="checkpoint folder or hub id")
    parsers[1].add_argument("--loras", type=Path, help="folder of NAME.safetensors")


def list_models(args: argparse.Namespace) -> None:
    """Print a line a model, the default first."""
    rows = [["NAME", "OFFLOAD", "TEXT", "PATH", "ALIASES"]]
    for entry in catalog.read(args.models_dir):
        text = entry.text_encoder
        where = ",".join(filter(None, [text.device, text.dtype if text.dtype != "auto" else None]))
        rows.append([entry.name, entry.offload, where or "-", entry.path, ", ".join(entry.aliases)])
    show(rows)


def add_model(args: argparse.Namespace) -> None:
    """Write the file of a new model, and say where it is."""
    file = catalog.add(args.models_dir, args.name, args.path, args.loras)
    print(f"{file}: {args.name} is served from the next start on; settings go into this file.")
