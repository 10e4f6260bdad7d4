"""The studio at /, and the files of which it consists. They ask nothing of any other service."""

import hashlib
import html
import string
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from serving.context import Whole
from serving.docs import render
from serving.errors import ApiError

FOLDER = Path(__file__).parent / "page"
PAGE = string.Template((FOLDER / "index.html").read_text("utf-8"))
MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in MEDIA}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing but our own files is run or loaded, and no text becomes markup (CSP Level 3, and Trusted
Types, W3C)."""
GUARDS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
CHIPS = 6
"""Prompts that the page offers before anything is typed."""

router = APIRouter(include_in_schema=False)


@router.get("/")
def page(request: Request, parts: Whole) -> HTMLResponse:
    """What this is, for a person with a browser."""
    rows = parts.served()
    model = rows[0]["description"]["name"] if rows else "one that is still being loaded"
    known = rows[0]["description"]["examples"] if rows else None
    examples: list[str] = known or ["A cat walks along a wall in the evening sun"]
    spread = dict.fromkeys(examples[i * len(examples) // CHIPS] for i in range(CHIPS))
    chips = (f'<button type="button" class="chip">{html.escape(e)}</button>' for e in spread)
    filled = PAGE.substitute(
        url=html.escape(str(request.base_url).rstrip("/")),
        model=html.escape(model),
        prompt=html.escape(examples[0]),
        examples="".join(chips),
    )
    return HTMLResponse(filled, headers=GUARDS)


@router.get("/studio/{name}")
def file(name: str, request: Request) -> Response:
    """A script, style sheet or picture of the page."""
    if name not in FILES:
        raise ApiError(f"There is no file {name[:80]!a}.", code="not_found", status=404)
    etag = f'"{hashlib.sha256(FILES[name]).hexdigest()[:32]}"'
    headers = GUARDS | {"etag": etag, "cache-control": "no-cache"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(FILES[name], headers=headers, media_type=MEDIA[Path(name).suffix])


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """Every route and field, for a person with a browser."""
    return HTMLResponse(render(request.app.openapi()))
