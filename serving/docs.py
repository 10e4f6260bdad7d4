"""The published schema as one page of HTML, which loads nothing from anywhere."""

import html
import json
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = string.Template((Path(__file__).parent / "page" / "docs.html").read_text("utf-8"))
_HEAD = "<tr><th>Name<th>Type<th>Default<th>Meaning<th>Example</tr>"


def render(document: dict[str, Any]) -> str:
    """The page for an OpenAPI document."""
    operations = [
        _operation(document, method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    answers = [
        f'<h2 id="{name}">{name}</h2>{_table(_fields(document["components"]["schemas"][name]))}'
        for name in ("Video", "VideoPage", "VideoDeleted", "Model", "ModelPage", "ErrorDetail")
    ]
    return PAGE.substitute(operations="\n".join(operations), answers="\n".join(answers))


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [_parameter(parameter) for parameter in operation.get("parameters", [])]
    if "requestBody" in operation:
        reference = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["$ref"]
        rows += _fields(document["components"]["schemas"][reference.split("/")[-1]])
    summary = html.escape(operation.get("description", ""))
    return f"<h2>{method.upper()} {html.escape(path)}</h2><p>{summary}</p>{_table(rows)}"


def _table(rows: list[list[str]]) -> str:
    cells = ("".join(f"<td>{_escaped(cell)}" for cell in row) for row in rows)
    return f"<table>{_HEAD}{''.join(f'<tr>{row}</tr>' for row in cells)}</table>" if rows else ""


def _escaped(text: str) -> str:
    # An address that is an example stays text: in the page's source there is none to be loaded.
    return html.escape(text).replace("://", "&#58;//")


def _parameter(parameter: dict[str, Any]) -> list[str]:
    schema = {"description": parameter.get("description", ""), **parameter["schema"]}
    if "example" in parameter:
        schema["examples"] = [parameter["example"]]
    row = _field(parameter["name"], schema, parameter.get("required", False))
    return [f"{row[0]} ({parameter['in']})", *row[1:]]


def _fields(schema: dict[str, Any]) -> list[list[str]]:
    required = schema.get("required", [])
    return [_field(name, field, name in required) for name, field in schema["properties"].items()]


def _field(name: str, schema: dict[str, Any], required: bool) -> list[str]:
    default = "required" if required else _json(schema.get("default"))
    example = next(iter(schema.get("examples", [])), None)
    kind = " or ".join(dict.fromkeys(_types(schema)))
    return [name, kind, default, schema.get("description", ""), _json(example)]


def _types(schema: dict[str, Any]) -> Iterator[str]:
    for choice in schema.get("anyOf", [schema]):
        if "$ref" in choice:
            yield choice["$ref"].split("/")[-1]
        elif "contentMediaType" in choice:
            yield "file"
        elif "enum" in choice:
            yield " or ".join(choice["enum"])
        elif choice.get("type") != "null":
            yield str(choice.get("const", choice.get("type", "object")))


def _json(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
