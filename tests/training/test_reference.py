"""The documentation's table of keys is the schema's."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter

from training.config import TrainConfig
from training.reference import table

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_page_has_the_table_that_the_schema_gives() -> None:
    assert PAGE.read_text("utf-8").endswith(table() + "\n")


def test_a_default_is_spelt_as_a_file_would_have_it() -> None:
    """Every one that is not required, read back by YAML, is what the schema takes for it."""
    checked = 0
    for key, default, _ in (row.strip("| ").split(" | ", 2) for row in table().splitlines()[2:]):
        if default == "required":
            continue
        section: Any = TrainConfig
        *above, name = key.strip("`").split(".")
        for part in above:
            section = section.model_fields[part].annotation
        field = section.model_fields[name]
        read = TypeAdapter(field.annotation).validate_python(yaml.safe_load(default.strip("`")))
        assert read == field.default, key
        checked += 1
    assert checked > 40


def test_every_key_says_what_it_means() -> None:
    rows = table().splitlines()[2:]
    assert len(rows) > 40 and all(row.split(" | ")[2].strip(" |") for row in rows)
