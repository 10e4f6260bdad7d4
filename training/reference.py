"""The table of every key of a training's configuration, from the schema itself.

python -m training.reference
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from training.config import TrainConfig


def table() -> str:
    """Return the keys of `TrainConfig` as a table of Markdown: key, default, meaning."""
    rows = [f"| `{key}` | {default} | {text} |" for key, default, text in _rows(TrainConfig)]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _rows(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        kind: Any = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _rows(kind, f"{prefix}{name}.")
        else:
            default = "required" if field.is_required() else f"`{_spelt(field.default)}`"
            yield prefix + name, default, field.description or ""


def _spelt(value: Any) -> str:
    """A default as YAML spells it."""
    if value is None or value is PydanticUndefined:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    print(table())
