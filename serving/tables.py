"""The tables of the one database, and the words of which its columns are made."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

ATTEMPTS = 3
"""Starts that a job is given: one that kills its worker must not do so for ever."""

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
UNFINISHED = (QUEUED, IN_PROGRESS)

metadata = sa.MetaData()

videos = sa.Table(
    "videos",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float),
    sa.Column("completed_at", sa.Float),
    sa.Column("status", sa.String, nullable=False, default=QUEUED),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("request", sa.JSON, nullable=False),  # what was asked
    sa.Column("resolved", sa.JSON, nullable=False),  # what is made of it
    sa.Column("progress", sa.Integer, nullable=False, default=0),  # percent
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("timings", sa.JSON(none_as_null=True)),  # seconds per stage
    sa.Column("error", sa.JSON(none_as_null=True)),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("attempts_left", sa.Integer, nullable=False, default=ATTEMPTS),
    sa.Column("owner", sa.String),  # executor of the latest attempt
    sa.Column("idempotency_key", sa.String, unique=True),
    sa.Column("user_id", sa.String, nullable=False, server_default=""),  # who asked
    sa.Column("key_id", sa.String, nullable=False, server_default=""),  # by which key, if by one
    sa.Column("priority", sa.String, nullable=False, server_default="normal"),  # its class
    sa.Column("turn", sa.Integer, nullable=False, server_default="0"),  # place inside the class
    sa.Column("source_id", sa.String),  # the video that it is a remix of
    sa.Column("inputs", sa.JSON, nullable=False, server_default="{}"),  # name: file name
    sa.Column("expires_at", sa.Float),
    sa.Column("step_at", sa.Float),  # of the latest progress
    sa.Column("worker_seconds", sa.Float),  # spent by the attempt that completed it
    sa.Column("shape", sa.String, nullable=False, server_default=""),  # what its cost depends on
    sa.Column("request_id", sa.String, nullable=False, server_default=""),  # of its HTTP request
    sa.Column("trace", sa.String, nullable=False, server_default=""),  # W3C traceparent of that
    sa.Index("videos_by_age", "created_at", "id"),
    # The queue in its order, with all that a wait is counted from.
    sa.Index(
        *("videos_by_turn", "status", "priority", "turn", "created_at", "id", "model", "shape")
    ),
    sa.Index("videos_by_user", "user_id", "status", "priority", "turn"),
    sa.Index("videos_by_end", "status", "model", "completed_at"),
    sa.Index("videos_by_expiry", "expires_at"),
    sa.Index("videos_by_source", "source_id"),
    sa.Index("videos_by_key", "key_id", "created_at", "id"),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("executor", sa.String, primary_key=True),  # name of the slot
    sa.Column("incarnation", sa.String, nullable=False),  # of the process that holds the slot
    sa.Column("heartbeat_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("device", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),  # starting, ready, or left: it has gone
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("executor", sa.String, primary_key=True),
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),  # in the catalogue; the default is 0
    sa.Column("description", sa.JSON, nullable=False),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("digest", sa.String, nullable=False, unique=True),  # SHA-256 of the secret
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
    sa.Column("per_minute", sa.Integer),
    sa.Column("per_day", sa.Integer),
    sa.Column("queued", sa.Integer),
)

uses = sa.Table(
    "uses",
    metadata,
    sa.Column("key_id", sa.String, primary_key=True),
    sa.Column("per", sa.String, primary_key=True),  # minute or day
    sa.Column("window", sa.Integer, nullable=False),  # which of them since 1970
    sa.Column("videos", sa.Integer, nullable=False),
)

webhook_secrets = sa.Table(
    "webhook_secrets",
    metadata,
    sa.Column("secret", sa.String, primary_key=True),
    sa.Column("key_id", sa.String, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("retires_at", sa.Float),
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("event_id", sa.String, primary_key=True),
    sa.Column("video_id", sa.String, nullable=False, index=True),
    sa.Column("key_id", sa.String, nullable=False),  # by whose secrets it is signed
    sa.Column("url", sa.String, nullable=False),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("due_at", sa.Float, index=True),  # of the next try, if there is to be one
    sa.Column("delivered_at", sa.Float),
    sa.Column("failure", sa.String),  # of the latest try
)

tallies = sa.Table(
    "tallies",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("first", sa.String, primary_key=True),
    sa.Column("second", sa.String, primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)

previews = sa.Table(
    "previews",
    metadata,
    sa.Column("video_id", sa.String, primary_key=True),
    sa.Column("watched_until", sa.Float, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("step", sa.Integer, nullable=False, default=0),
    sa.Column("image", sa.LargeBinary),  # None until the worker has drawn one
)

Row = Mapping[str, Any]
