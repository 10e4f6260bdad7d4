"""What a service has done so far, counted in the database with what it counts.

All processes of a fleet add to one sum, and deleting a video takes nothing away from it.
"""

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from serving.tables import COMPLETED, Row, tallies

Sums = dict[tuple[str, str, str], float]
"""What is added to the sum of a name and up to two labels; a label that is not needed is empty."""


def began(row: Row) -> Sums:
    """An attempt at a job that has just started."""
    sums = {("attempts", row["model"], ""): 1.0}
    if row["attempt"] == 1:
        waited = max(row["started_at"] - row["created_at"], 0.0)
        sums |= {
            ("started", row["priority"], ""): 1.0,
            ("wait_seconds", row["priority"], ""): waited,
        }
    return sums


def ended(row: Row, instant: float) -> Sums:
    """A job that is over, by its new row."""
    code = "" if row["status"] == COMPLETED else row["error"]["code"]
    sums = {("ended", row["status"], code): 1.0}
    if row["started_at"] is not None:
        sums["gpu_seconds", row["key_id"], ""] = max(instant - row["started_at"], 0.0)
    for stage, seconds in (row["timings"] or {}).items():
        sums["stage_seconds", row["model"], stage] = seconds
    if row["status"] == COMPLETED:
        sums["steps", row["model"], ""] = float(row["steps"])
    return sums


def add(connection: sa.Connection, sums: Sums) -> None:
    """Add within the caller's transaction; in one order, so that two of them cannot lock up."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    for (name, first, second), value in sorted(sums.items()):
        row = {"name": name, "first": first, "second": second, "value": value}
        insert = dialect.insert(tallies).values(row)
        sums_up = {"value": tallies.c.value + insert.excluded.value}
        keys = ["name", "first", "second"]
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=sums_up))


def read(connection: sa.Connection) -> Mapping[str, Mapping[tuple[str, str], float]]:
    """Every sum, by name and labels."""
    found: dict[str, dict[tuple[str, str], float]] = {}
    for row in connection.execute(sa.select(tallies)):
        found.setdefault(row.name, {})[row.first, row.second] = row.value
    return found
