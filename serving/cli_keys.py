"""`kinetograph keys`: who may ask a service, shown, added to and taken from."""

import argparse
import time
from pathlib import Path
from typing import Any

from serving.cli_actions import add, add_database, database, show
from serving.export import export
from serving.keys import SCOPES, USUAL, Keys
from serving.objects import open_files
from serving.settings import Settings


def register(commands: Any, settings: Settings) -> None:
    """Add the command to argparse's `commands`; `settings` has the defaults."""
    parsers = add(
        commands, "keys", "the API keys of a service", create, list_keys, revoke, export_key
    )
    for parser in parsers:
        add_database(parser, settings)
    for parser in (parsers[0], *parsers[2:]):
        parser.add_argument("name", help="what the key is called")
    _add_limits(parsers[0])
    parsers[3].add_argument("--storage", help="as of the service")
    parsers[3].add_argument(
        "-o", "--output", type=Path, default=Path("export.zip"), help="archive to write"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    scopes = f"what it may do, of {','.join(SCOPES)}; {','.join(USUAL)} if not given"
    parser.add_argument("--scopes", type=_scopes, default=USUAL, help=scopes)
    for option, text in (
        ("--days", "after which it expires; never if not given"),
        ("--per-minute", "videos that it may ask for in a minute"),
        ("--per-day", "videos that it may ask for on a day (UTC)"),
        ("--queued", "jobs that it may have waiting, in place of --most-queued"),
    ):
        parser.add_argument(option, type=_positive, help=text)


def _scopes(text: str) -> tuple[str, ...]:
    scopes = tuple(text.split(","))
    if not set(scopes) <= set(SCOPES):
        raise argparse.ArgumentTypeError(f"must be of {','.join(SCOPES)}, not {text}")
    return scopes


def _positive(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1_000_000_000:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text}")
    return int(text)


def create(args: argparse.Namespace) -> None:
    """Make a key and print it, alone on its line."""
    limits = {"per_minute": args.per_minute, "per_day": args.per_day, "queued": args.queued}
    with database(args) as store:
        print(Keys(store.engine).create(args.name, args.scopes, args.days, **limits))


def list_keys(args: argparse.Namespace) -> None:
    """Print a line a key, the oldest first."""
    rows = [["ID", "NAME", "STATE", "SCOPES", "EXPIRES", "A MINUTE", "A DAY", "QUEUED"]]
    with database(args) as store:
        for key in Keys(store.engine).list():
            limits = (str(n or "-") for n in (key.per_minute, key.per_day, key.queued))
            day = time.strftime("%Y-%m-%d", time.gmtime(key.expires_at)) if key.expires_at else "-"
            rows.append([key.id, key.name, key.state, ",".join(key.scopes), day, *limits])
    show(rows)


def revoke(args: argparse.Namespace) -> None:
    """Have a key be of no use from now on."""
    with database(args) as store:
        Keys(store.engine).revoke(args.name)
    print(f"{args.name} is revoked.")


def export_key(args: argparse.Namespace) -> None:
    """Write all that the service keeps of a key's videos into an archive."""
    with database(args) as store:
        key = Keys(store.engine).get(args.name)
        files = open_files(Settings(data=args.data, storage=args.storage))
        count = export(store, files, key, args.output)
    print(f"{args.output}: {count} videos.")
