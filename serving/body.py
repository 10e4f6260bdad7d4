"""Request bodies: multipart, urlencoded or JSON, all to the same nested fields, files included."""

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serving.errors import ApiError
from serving.fields import Fields

JSON, URLENCODED, MULTIPART = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
)
LARGEST_TEXT = 1 << 20
"""Bytes of a body without files; a prompt of the longest allowed length fits several times over."""
LARGEST_INLINE = 28 << 20
"""Bytes of text where a file may be spelled in it, as base64: 4 bytes for 3."""
LARGEST_UPLOAD = 257 << 20
"""Bytes of a multipart body where a file may be in it: the largest video, and the words."""
MOST_FIELDS, MOST_FILES = 64, 2

Asked = TypeVar("Asked", bound=Fields)


@asynccontextmanager
async def parsed(request: Request, form: type[Asked]) -> AsyncIterator[Asked]:
    """What the body spells, in any accepted type; its files are open until the context ends.

    Raises:
        ApiError: for a body that is too large, malformed, of another type or not what `form` takes.
    """
    items = await _read(request, takes_files={"input_reference", "video"} & set(form.model_fields))
    try:
        yield form.parse(nest(items))
    finally:
        for _, value in items:
            if isinstance(value, UploadFile):
                await value.close()


async def drain(request: Request) -> None:
    """Read a body whose request is refused anyway: a client cut off in mid-file sees no refusal."""
    async for _ in _limited(request, LARGEST_UPLOAD):
        pass


async def _read(request: Request, takes_files: set[str]) -> list[tuple[str, Any]]:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    text = LARGEST_INLINE if takes_files else LARGEST_TEXT
    if kind == MULTIPART:
        most = LARGEST_UPLOAD if takes_files else LARGEST_TEXT
        return await _from_multipart(request.headers, _limited(request, most), text)
    if kind == URLENCODED:
        return _from_urlencoded(await _whole(request, text))
    if kind == JSON:
        return list(_from_json(await _whole(request, text)).items())
    message = f"Content-Type must be {JSON}, {URLENCODED} or {MULTIPART}, not {kind or 'absent'}."
    raise ApiError(message, code="unsupported_media_type", status=415)


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes]:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise _too_large(most)
        yield chunk


def _too_large(most: int) -> ApiError:
    return ApiError(f"The body must be at most {most} bytes.", code="body_too_large", status=413)


async def _whole(request: Request, most: int) -> bytes:
    return b"".join([chunk async for chunk in _limited(request, most)])


def _from_json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"The body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise ApiError("The body must be a JSON object.", code="invalid_json")
    return fields


def _from_urlencoded(body: bytes) -> list[tuple[str, Any]]:
    # Starlette's own parser takes bytes that are not escaped for Latin-1.
    try:
        return list(parse_qsl(body.decode(), True, errors="strict", max_num_fields=MOST_FIELDS))
    except ValueError as error:
        raise _unreadable(str(error)) from None


async def _from_multipart(
    headers: Headers, stream: AsyncGenerator[bytes], most_text: int
) -> list[tuple[str, Any]]:
    parser = _Multipart(
        headers,
        stream,
        max_fields=MOST_FIELDS,
        max_files=MOST_FILES,
        max_part_size=most_text,
    )
    try:
        return (await parser.parse()).multi_items()
    except MultiPartException as error:
        raise _unreadable(error.message) from None


class _Multipart(MultiPartParser):
    """Starlette's parser, which spools files to disk; all text together is limited, and UTF-8."""

    _size = 0
    _whole = False

    async def parse(self) -> FormData:
        form = await super().parse()
        if not self._whole:
            raise MultiPartException("it ends before its last boundary.")
        return form

    def on_end(self) -> None:
        self._whole = True

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            self._size += end - start
            if self._size > self.max_part_size:
                message = f"The text of a form must be at most {self.max_part_size} bytes."
                raise ApiError(message, code="body_too_large", status=413)
        super().on_part_data(data, start, end)

    def on_part_end(self) -> None:
        try:
            self._current_part.data.decode()
        except UnicodeDecodeError as error:
            raise MultiPartException(f"{self._current_part.field_name}: {error}") from None
        super().on_part_end()


def _unreadable(detail: str) -> ApiError:
    return ApiError(f"The form cannot be read: {detail}", code="invalid_form")


def nest(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Fields by name from a form's pairs: `a[b]` is item b of a, each `c[]` one more of a list.

    Raises:
        ApiError: for a field that is given twice, or as several kinds of value.
    """
    fields: dict[str, Any] = {}
    for name, value in items:
        match = re.fullmatch(r"([^\[\]]+)\[([^\[\]]*)\]", name)
        outer, key = match.groups() if match else (name, None)
        if match and not key:
            entry = fields.setdefault(outer, [])
            fresh = isinstance(entry, list)
        elif match:
            entry = fields.setdefault(outer, {})
            fresh = isinstance(entry, dict) and key not in entry
        else:
            entry, key, fresh = fields, name, name not in fields
        if not fresh:
            raise ApiError(f"{name[:80]} is given more than once.", param=outer[:80])
        if isinstance(entry, list):
            entry.append(value)
        else:
            entry[key] = value
    return fields
