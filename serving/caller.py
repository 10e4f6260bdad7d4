"""Who asks: whose turn a job takes, and under which key it may be asked for again."""

import hashlib
from dataclasses import dataclass
from typing import Self

from starlette.requests import Request

from serving.errors import ApiError
from serving.tracing import traceparent

LONGEST_KEY = 255
"""Characters of an Idempotency-Key."""


@dataclass(frozen=True)
class Caller:
    """token: SHA-256 of the bearer token. address: of the client. key: its Idempotency-Key.

    request_id: of the answer. trace: the span of the request, as a W3C traceparent.
    """

    token: str | None
    address: str
    key: str | None
    request_id: str = ""
    trace: str = ""

    @classmethod
    def of(cls, request: Request) -> Self:
        """What the headers of `request` tell. Raises ApiError for a key that is too long."""
        key = request.headers.get("idempotency-key")
        if key and len(key) > LONGEST_KEY:
            message = f"Idempotency-Key must be at most {LONGEST_KEY} characters, not {len(key)}."
            raise ApiError(message, param="Idempotency-Key")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        bearer = token.strip() if scheme.lower() == "bearer" else ""
        address = request.client.host if request.client else ""
        told = request.scope.get("request_id", ""), traceparent()
        return cls(_sha256(bearer) if bearer else None, address, key or None, *told)

    def user_id(self, user: str | None) -> str:
        """Whose turn a job takes: the token's, else that of the `user` it names, else the client's.

        Hashed with its kind, so that no name that is sent can pass for somebody's token.
        """
        if self.token is not None:
            return self.token
        return _sha256(f"user:{user}" if user else f"address:{self.address}")

    @property
    def idempotency_key(self) -> str | None:
        """The key, apart from the same one under another token."""
        return self.key and f"{self.token or ''}:{self.key}"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
