"""The table of every key of a training's configuration, from the schema itself.

python -m training.reference
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

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
    plain = list(value) if isinstance(value, tuple) else value
    plain = str(value) if isinstance(value, Path) else plain
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=math.inf)
    return text.removesuffix("...\n").strip()


if __name__ == "__main__":
    print(table())
