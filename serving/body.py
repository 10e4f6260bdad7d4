"""Request bodies: multipart, urlencoded or JSON, all to the same nested fields."""

import json
import re
from collections.abc import Iterable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from serving.errors import ApiError

JSON = "application/json"
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
LARGEST_BODY = 1 << 20
"""Bytes; a prompt of the longest allowed length fits several times over."""


async def read_fields(request: Request) -> dict[str, Any]:
    """The fields of a body of any accepted type.

    Raises:
        ApiError: for a body that is too large, malformed or of another type.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != JSON and kind not in FORMS:
        message = f"Content-Type must be {JSON} or {' or '.join(FORMS)}, not {kind or 'absent'}."
        raise ApiError(message, code="unsupported_media_type", status=415)
    request = _limited(request)
    if kind == JSON:
        return _from_json(await request.body())
    try:
        return nest((await request.form()).multi_items())
    except (HTTPException, ValueError) as error:
        detail = error.detail if isinstance(error, HTTPException) else error
        raise ApiError(f"The form cannot be read: {detail}", code="invalid_form") from None


def _limited(request: Request) -> Request:
    left = LARGEST_BODY

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            text = f"The body must be at most {LARGEST_BODY} bytes."
            raise ApiError(text, code="body_too_large", status=413)
        return message

    return Request(request.scope, receive)


def _from_json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"The body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise ApiError("The body must be a JSON object.", code="invalid_json")
    return fields


def nest(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Fields by name from a form's pairs: `a[b]` is item b of a, each `c[]` one more of a list.

    Raises:
        ApiError: for a field that is given twice, or as several kinds of value.
    """
    fields: dict[str, Any] = {}
    for name, value in items:
        match = re.fullmatch(r"([^\[\]]+)\[([^\[\]]*)\]", name)
        outer, key = match.groups() if match else (name, None)
        if key == "":
            entry = fields.setdefault(outer, [])
            fresh = isinstance(entry, list)
        elif key is not None:
            entry = fields.setdefault(outer, {})
            fresh = isinstance(entry, dict) and key not in entry
        else:
            entry, key, fresh = fields, name, name not in fields
        if not fresh:
            raise ApiError(f"{name} is given more than once.", param=outer)
        if key == "":
            entry.append(value)
        else:
            entry[key] = value
    return fields
