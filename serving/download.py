"""An artifact as an answer: from a file of this machine, or from a bucket, whole or in part."""

import re
from collections.abc import Mapping

from fastapi.responses import FileResponse
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from serving.errors import ApiError
from serving.files import VARIANTS, Files
from serving.objects import Objects
from serving.tables import Row


def send(
    files: Files, row: Row, variant: str, request: Request, headers: Mapping[str, str]
) -> Response:
    """Answer with an artifact of a completed video. Raises ApiError 404 if it is gone, or 416."""
    where = (row["id"], row["attempt"], variant)
    size = files.size(*where)
    if size is None:  # it was deleted just now, or by somebody else
        message = f"The {variant} of {row['id']} is gone."
        raise ApiError(message, code="file_not_found", status=404)
    kind = VARIANTS[variant][1]
    if not isinstance(files, Objects):
        return FileResponse(files.path(*where), headers=headers, media_type=kind)
    if (address := files.address(*where)) is not None:
        return RedirectResponse(address, 307, {"cache-control": "no-store"})
    told = dict(headers) | {"accept-ranges": "bytes"}
    span = _range(request, size, headers.get("etag"))
    start, end = span or (0, size)
    told["content-length"] = str(end - start)
    if span:
        told["content-range"] = f"bytes {start}-{end - 1}/{size}"
    if request.method == "HEAD":
        return Response(None, 200, told, kind)
    return StreamingResponse(files.part(*where, start, end), 206 if span else 200, told, kind)


def _range(request: Request, size: int, etag: str | None) -> tuple[int, int] | None:
    """The one range that is asked for, as start and end; None for all (RFC 9110, section 14)."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if match is None or match.groups() == ("", "") or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        headers = {"content-range": f"bytes */{size}"}
        message = f"The range must begin within the file's {size} bytes."
        raise ApiError(message, code="range_not_satisfiable", status=416, headers=headers)
    return start, end
