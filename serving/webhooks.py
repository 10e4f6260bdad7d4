"""Webhooks: that a job is over is told to the address that its request named, at least once.

What is to be told is written with the end of the job, in one transaction (`serving.store`); the
caretaker gives what is due to the durable queue, and a worker sends it, signed as Standard Webhooks
has it (github.com/standard-webhooks, spec 1.0). What fails is due again later.
"""

import base64
import json
import logging
import random
import secrets
import time
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from standardwebhooks import Webhook

from serving.database import now
from serving.egress import Egress, Failed, Forbidden
from serving.jobs import JobQueue
from serving.store import Store
from serving.tables import Row, deliveries, webhook_secrets

SECONDS = 10.0
"""Within which a receiver has to answer."""
FIRST_DELAY, LONGEST_DELAY = 5.0, 6 * 3600.0
"""Seconds until the next try; doubled each time."""
GIVE_UP_SECONDS = 72 * 3600.0
"""Age of an event from which it is not tried again."""
LOST_SECONDS = 900.0
"""After which an event counts as lost by the queue, and is queued again."""
BATCH = 100

log = logging.getLogger("kinetograph.webhooks")


class Secrets:
    """What webhooks are signed with, for each API key; "" is for jobs that were asked without."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def of(self, key_id: str) -> list[str]:
        """The secrets of a key that are in use, the newest first."""
        mine = webhook_secrets.c.key_id == key_id
        retires = webhook_secrets.c.retires_at
        used = sa.or_(retires.is_(None), retires > time.time())
        query = sa.select(webhook_secrets.c.secret).where(mine, used)
        with self._engine.connect() as connection:
            newest = webhook_secrets.c.created_at.desc()
            return list(connection.scalars(query.order_by(newest)))

    def rotate(self, key_id: str, hours: float) -> str:
        """Make a new secret; the others sign beside it for so many hours more, then never again."""
        secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
        moment = time.time()
        row = {"key_id": key_id, "secret": secret, "created_at": moment}
        lasting = webhook_secrets.c.key_id == key_id, webhook_secrets.c.retires_at.is_(None)
        retired = sa.update(webhook_secrets).where(*lasting)
        gone = webhook_secrets.c.retires_at <= moment
        with self._engine.begin() as connection:
            connection.execute(sa.delete(webhook_secrets).where(gone))
            connection.execute(retired.values(retires_at=moment + 3600 * hours))
            connection.execute(sa.insert(webhook_secrets).values(row))
        return secret


class Courier:
    """Sends events, one try a call."""

    def __init__(self, store: Store, egress: Egress) -> None:
        self._store, self._egress = store, egress
        self._secrets = Secrets(store.engine)

    def deliver(self, event_id: str, attempt: int) -> None:
        """Make that try at an event, unless it was made, and note how it went."""
        row = _get(self._store, event_id)
        if row is None or row["attempts"] != attempt or row["due_at"] is None:
            return
        failure = self._try(row)
        age = time.time() - row["created_at"]
        values: dict[str, Any] = {"attempts": attempt + 1, "failure": failure, "due_at": None}
        if failure is None:
            values["delivered_at"] = time.time()
        elif age < GIVE_UP_SECONDS:
            values["due_at"] = time.time() + _delay(attempt)
        told = "%s: %s, try %d: %s"
        log.info(told, row["video_id"], row["type"], attempt + 1, failure or "delivered")
        mine = deliveries.c.event_id == event_id, deliveries.c.attempts == attempt
        with self._store.transaction() as connection:
            connection.execute(sa.update(deliveries).where(*mine).values(values))

    def _try(self, row: Row) -> str | None:
        """Why it failed, if it did."""
        body = payload(row)
        headers = sign(row["event_id"], body, self._secrets.of(row["key_id"]))
        try:
            status = self._egress.post(row["url"], headers, body.encode(), SECONDS)
        except Forbidden as error:
            return f"the address must be {error}"
        except Failed as error:
            return str(error)
        return None if 200 <= status < 300 else f"it answered {status}"


def _get(store: Store, event_id: str) -> Row | None:
    query = sa.select(deliveries).where(deliveries.c.event_id == event_id)
    with store.transaction() as connection:
        row = connection.execute(query).mappings().first()
        return None if row is None else dict(row)


def _delay(attempt: int) -> float:
    # Spread, so that what failed together does not come back together.
    delay = min(FIRST_DELAY * 2.0**attempt, LONGEST_DELAY)
    return delay * random.uniform(1, 1.2)


def payload(row: Row) -> str:
    """The body: an event in OpenAI's form, with the video's id."""
    event = {"object": "event", "id": row["event_id"], "type": row["type"]}
    event |= {"created_at": int(row["created_at"]), "data": {"id": row["video_id"]}}
    return json.dumps(event)


def sign(event_id: str, body: str, keys: list[str]) -> dict[str, str]:
    """The headers by which a receiver knows the sender, with one signature for each secret."""
    instant = datetime.now(UTC)
    signatures = [Webhook(key).sign(event_id, instant, body) for key in keys]
    return {
        "content-type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(instant.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def queue_due(store: Store, jobs: JobQueue) -> None:
    """Give the events that are due to the queue. Safe to repeat and to race."""
    columns = deliveries.c.event_id, deliveries.c.attempts
    with store.engine.connect() as connection:
        due = deliveries.c.due_at <= now(connection)
        query = sa.select(*columns).where(due).order_by(deliveries.c.due_at).limit(BATCH)
        found = connection.execute(query).all()
    for event_id, attempts in found:
        jobs.enqueue_delivery(event_id, attempts)
        # Whichever comes first: the try notes another time, unless it is lost.
        mine = deliveries.c.event_id == event_id, deliveries.c.attempts == attempts
        waiting = sa.update(deliveries).where(*mine, deliveries.c.due_at.is_not(None))
        with store.transaction() as connection:
            connection.execute(waiting.values(due_at=now(connection) + LOST_SECONDS))
