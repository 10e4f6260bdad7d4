"""What `kinetograph keys`, `models` and `webhooks` have in common: actions, tables, a database."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from serving.database import UNAVAILABLE, reason
from serving.settings import Settings
from serving.store import Store

Action = Callable[[argparse.Namespace], None]


class CannotDo(Exception):
    """An action that cannot be done; a sentence says why."""


def add(commands: Any, name: str, what: str, *actions: Action) -> list[argparse.ArgumentParser]:
    """Add the command `name` to argparse's `commands`; gives the parser of each of its actions.

    An action's name is its function's up to the first underscore, its help is the docstring.
    """
    names = [action.__name__.partition("_")[0] for action in actions]
    command = commands.add_parser(name, help=f"{what}: {', '.join(names)}")
    parsers = command.add_subparsers(required=True, metavar="action")
    made = []
    for action_name, action in zip(names, actions, strict=True):
        parser = parsers.add_parser(action_name, help=str(action.__doc__).split(".")[0].lower())
        parser.set_defaults(command=action)
        made.append(parser)
    return made


def add_database(parser: argparse.ArgumentParser, settings: Settings) -> None:
    """Add the options by which `database` is told where the service keeps its rows."""
    parser.add_argument("--data", default=settings.data, help="as of the service")
    parser.add_argument("--database", help="as of the service")


@contextmanager
def database(args: argparse.Namespace) -> Iterator[Store]:
    """The rows of the service whose options are `args`.

    Raises:
        CannotDo: if the options are wrong, or the database is not there.
    """
    try:
        settings = Settings(data=args.data, database=args.database)
    except ValidationError as error:
        raise CannotDo(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
    settings.data.mkdir(parents=True, exist_ok=True)
    store = Store(settings.database_url)
    try:
        store.create_tables()
        yield store
    except UNAVAILABLE as error:
        raise CannotDo(f"The database cannot be used: {reason(error)}") from None
    finally:
        store.close()


def show(rows: Sequence[Sequence[str]]) -> None:
    """Print rows, the first of them titles, in columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(c.ljust(width) for c, width in zip(row, widths, strict=True)).rstrip())
