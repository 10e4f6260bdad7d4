"""The published schema: what routes that read their request by hand take, JSON and forms alike."""

import copy
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from serving.answers import ErrorEnvelope
from serving.caller import LONGEST_KEY
from serving.fields import Fields
from serving.schema import (
    CreateCharacter,
    CreateVideo,
    EditVideo,
    ExtendVideo,
    RemixVideo,
    VerifyVideo,
)

FORMS: tuple[type[Fields], ...] = (
    *(CreateVideo, RemixVideo, EditVideo, ExtendVideo),
    *(CreateCharacter, VerifyVideo),
)
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorEnvelope, "description": "The request is refused."},
    "5XX": {"model": ErrorEnvelope, "description": "The service cannot do it now."},
}
"""Of every route."""

_REFERENCE = "#/components/schemas/{model}"
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Requests with the same key make one job; a key is for one request. Must be "
    f"text of at most {LONGEST_KEY} characters.",
    "schema": {"type": "string", "maxLength": LONGEST_KEY},
    "example": "order-4711",
}


_BEARER = {
    "type": "http",
    "scheme": "bearer",
    "description": "An API key, of a service that has any.",
}


def body(form: type[Fields]) -> dict[str, Any]:
    """What to publish of a route that takes `form`: as JSON, or as a form with files."""
    content = {
        "application/json": {"schema": {"$ref": _REFERENCE.format(model=form.__name__)}},
        "multipart/form-data": {"schema": {"$ref": _REFERENCE.format(model=_as_form(form))}},
    }
    return {"requestBody": {"required": True, "content": content}, "parameters": [_KEY]}


def query(fields: type[Fields]) -> dict[str, Any]:
    """What to publish of a route that takes `fields` in its query."""
    parameters = [
        {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}
        for name, schema in fields.model_json_schema()["properties"].items()
    ]
    return {"parameters": parameters}


def publish(app: FastAPI) -> None:
    """Have `app` publish the schemas of its forms with those of its answers."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
            )
            document["components"]["schemas"] |= _forms()
            document["components"]["securitySchemes"] = {"key": _BEARER}
            document["security"] = [{}, {"key": []}]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _forms() -> dict[str, Any]:
    models = [(form, "validation") for form in FORMS]
    _, told = models_json_schema(models, ref_template=_REFERENCE)  # type: ignore[arg-type]
    schemas: dict[str, Any] = told["$defs"]
    for form in FORMS:
        schemas[_as_form(form)] = copy.deepcopy(schemas[form.__name__])
        for choices in _choices(schemas[form.__name__]):
            choices[:] = [choice for choice in choices if "contentMediaType" not in choice]
    return schemas


def _choices(schema: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    yield from (field["anyOf"] for field in schema["properties"].values() if "anyOf" in field)


def _as_form(form: type[Fields]) -> str:
    return f"{form.__name__}Form"
