"""The documentation's table of keys is the schema's."""

from pathlib import Path

from training.reference import table

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_page_has_the_table_that_the_schema_gives() -> None:
    assert PAGE.read_text("utf-8").endswith(table() + "\n")


def test_every_key_says_what_it_means() -> None:
    rows = table().splitlines()[2:]
    assert len(rows) > 40 and all(row.split(" | ")[2].strip(" |") for row in rows)
