"""API keys: who may ask, and for how much.

A key is 32 random bytes that are shown once; of them only the SHA-256 is kept. While there has
never been a key, everybody may do everything; from the first one on, nobody may without.
"""

import hmac
import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from uuid import uuid4

import sqlalchemy as sa

from serving.database import now
from serving.errors import ApiError
from serving.tables import keys, uses

SCOPES = ("read", "write", "metrics")
"""read: to see one's videos and the models. write: to make, cancel and delete videos. metrics: to
see the figures of the whole service."""
USUAL = SCOPES[:2]
"""Of a key of which nothing else is said."""
PREFIX = "kino-"
WINDOWS = {"minute": 60, "day": 86_400}
"""Seconds in which videos are counted, each from a whole multiple of them (UTC)."""


class BadKey(ValueError):
    """A key that cannot be made or found; a sentence says why."""


@dataclass(frozen=True)
class Key:
    """What is known of a key; times in seconds since 1970 (UTC).

    per_minute, per_day: videos that may be asked for; queued: jobs that may wait; None: as many as
    the service allows anybody.
    """

    id: str
    name: str
    digest: str
    scopes: Sequence[str]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    per_minute: int | None = None
    per_day: int | None = None
    queued: int | None = None

    @property
    def state(self) -> str:
        """active, expired or revoked."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at and self.expires_at <= time.time() else "active"


class Keys:
    """The keys in one database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def create(
        self,
        name: str,
        scopes: Sequence[str] = USUAL,
        days: float | None = None,
        per_minute: int | None = None,
        per_day: int | None = None,
        queued: int | None = None,
    ) -> str:
        """Make a key; gives its secret, which nobody can find out afterwards.

        Raises:
            BadKey: if the name is taken.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        created = time.time()
        expires = None if days is None else created + 86_400 * days
        limits = {"per_minute": per_minute, "per_day": per_day, "queued": queued}
        digest = sha256(secret.encode()).hexdigest()
        key = Key(f"key_{uuid4().hex[:12]}", name, digest, scopes, created, expires, **limits)
        try:
            with self._engine.begin() as connection:
                connection.execute(sa.insert(keys).values(asdict(key)))
        except sa.exc.IntegrityError:
            raise BadKey(f"There is a key named {name}; choose another name.") from None
        return secret

    def list(self) -> list[Key]:
        """Every key there has ever been, the oldest first."""
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(keys).order_by(keys.c.created_at)).mappings()
            return [Key(**row) for row in rows]

    def get(self, name: str) -> Key:
        """The key of that name or id. Raises BadKey if there is none."""
        for key in self.list():
            if name in (key.name, key.id):
                return key
        raise BadKey(f"There is no key named {name}.")

    def revoke(self, name: str) -> None:
        """Have a key, by its name or id, be of no use from now on.

        Raises:
            BadKey: if there is no such key.
        """
        mine = keys.c.id == self.get(name).id
        with self._engine.begin() as connection:
            connection.execute(sa.update(keys).where(mine).values(revoked_at=time.time()))

    def any(self) -> bool:
        """Whether there has ever been a key: then one is needed."""
        with self._engine.connect() as connection:
            return connection.scalar(sa.select(keys.c.id).limit(1)) is not None

    def check(self, digest: str | None, scope: str) -> Key | None:
        """The key whose hash that is, if it may do what `scope` says; None where none is needed.

        Raises:
            ApiError: 401 for no key or one of no use, 403 for one without that scope.
        """
        if not self.any():
            return None
        key = self._find(digest) if digest else None
        if key is None or key.state != "active":
            raise _unauthorized("is missing" if digest is None else "is not one of this service")
        if scope not in key.scopes:
            message = f"This API key lacks the scope {scope}; it has {', '.join(key.scopes)}."
            raise ApiError(message, code="insufficient_scope", status=403)
        return key

    def _find(self, digest: str) -> Key | None:
        with self._engine.connect() as connection:
            query = sa.select(keys).where(keys.c.digest == digest)
            row = connection.execute(query).mappings().first()
        return Key(**row) if row and hmac.compare_digest(row["digest"], digest) else None


def _unauthorized(what: str) -> ApiError:
    message = f"The API key {what}, or has expired; send it as Authorization: Bearer {PREFIX}..."
    headers = {"www-authenticate": "Bearer", "x-should-retry": "false"}
    return ApiError(message, code="invalid_api_key", status=401, headers=headers)


def spend(connection: sa.Connection, key: Key) -> None:
    """Count one video for `key`, within the transaction that makes it and that no other races.

    In the database, so that every API process counts the same.

    Raises:
        ApiError: 429 if the key has had as many as it may in this minute or on this day.
    """
    instant = connection.scalar(sa.select(now(connection))) or 0.0
    for name, most in (("minute", key.per_minute), ("day", key.per_day)):
        if most is None:
            continue
        seconds = WINDOWS[name]
        window = int(instant // seconds)
        mine = uses.c.key_id == key.id, uses.c.per == name
        row = connection.execute(sa.select(uses.c.window, uses.c.videos).where(*mine)).first()
        count = row.videos if row and row.window == window else 0
        if count >= most:
            raise _exceeded(name, most, (window + 1) * seconds - instant)
        values = {"window": window, "videos": count + 1}
        if row:
            connection.execute(sa.update(uses).where(*mine).values(values))
        else:
            connection.execute(sa.insert(uses).values(key_id=key.id, per=name, **values))


def _exceeded(window: str, most: int, wait: float) -> ApiError:
    message = f"This API key may ask for {most} videos a {window}, and has; "
    message += f"the next {window} begins in {wait:.0f} s."
    # A client that is told to wait for longer than two minutes gives up by itself.
    headers = {"retry-after": str(max(1, round(wait)))}
    code = "rate_limit_exceeded" if window == "minute" else "quota_exceeded"
    return ApiError(message, code=code, status=429, headers=headers)
