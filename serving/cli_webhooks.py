"""`kinetograph webhooks`: what webhooks are signed with, and those that have not arrived."""

import argparse
import time
from typing import Any

import sqlalchemy as sa

from serving.cli_actions import add, add_database, database, show
from serving.keys import Keys
from serving.settings import Settings
from serving.store import Store
from serving.tables import deliveries
from serving.webhooks import Secrets


def register(commands: Any, settings: Settings) -> None:
    """Add the command to argparse's `commands`; `settings` has the defaults."""
    parsers = add(commands, "webhooks", "the webhooks of a service", secret, rotate, list_webhooks)
    for parser in parsers:
        add_database(parser, settings)
    for parser in parsers[:2]:
        text = "API key whose webhooks are meant; those of requests without a key if not given"
        parser.add_argument("name", nargs="?", help=text)
    text = "for which the old secret signs beside the new one (default: %(default)s)"
    parsers[1].add_argument("--hours", type=float, default=24.0, help=text)


def secret(args: argparse.Namespace) -> None:
    """Print the signing secret, alone on its line; make it if there is none."""
    with database(args) as store:
        secrets, key_id = Secrets(store.engine), _key_id(store, args.name)
        print((secrets.of(key_id) or [secrets.rotate(key_id, 0)])[0])


def rotate(args: argparse.Namespace) -> None:
    """Make a new secret and print it; the old one signs beside it for a while."""
    with database(args) as store:
        print(Secrets(store.engine).rotate(_key_id(store, args.name), args.hours))


def list_webhooks(args: argparse.Namespace) -> None:
    """Print a line an event that has not arrived, the oldest first."""
    rows = [["EVENT", "TYPE", "CREATED (UTC)", "TRIES", "LAST FAILURE", "NEXT"]]
    late = deliveries.c.delivered_at.is_(None)
    query = sa.select(deliveries).where(late).order_by(deliveries.c.created_at)
    with database(args) as store, store.engine.connect() as connection:
        for row in connection.execute(query):
            then = "given up" if row.due_at is None else _time(row.due_at)
            told = (row.event_id, row.type, _time(row.created_at), str(row.attempts))
            rows.append([*told, row.failure or "-", then])
    show(rows)


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _key_id(store: Store, name: str | None) -> str:
    return "" if name is None else Keys(store.engine).get(name).id
