"""Expressions choose rows as Python would, refuse everything else, and never evaluate anything."""

import pyarrow as pa
import pytest

from training.data.where import WhereError, select

TABLE = pa.table(
    {
        "motion": [0.1, 0.3, None, 0.9],
        "height": [480, 240, 720, 1080],
        "license": ["CC0", "", "CC-BY", "CC0"],
        "duplicate": [False, True, False, False],
    }
)


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("motion > 0.2 and height >= 480", [3]),
        ("motion > 0.2 or license == 'CC-BY'", [1, 2, 3]),
        ("not duplicate", [0, 2, 3]),
        ("240 < height <= 720", [0, 2]),
        ("license in ['CC0', 'CC-BY']", [0, 2, 3]),
        ("license not in ('CC0',)", [1, 2]),
        ("height * 2 - 40 > 1000", [2, 3]),
        ("motion > -1", [0, 1, 3]),
    ],
)
def test_rows_are_those_of_which_it_holds(expression: str, rows: list[int]) -> None:
    chosen = select(TABLE, expression).to_pylist()
    assert [k for k, yes in enumerate(chosen) if yes] == rows


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("moton > 0.2", "no column 'moton'; there are motion, height"),
        ("motion >", "is no expression"),
        ("__import__('os').system('true')", "is not allowed"),
        ("motion.real > 1", "motion.real is not allowed"),
        ("license > 3", "cannot be told"),
        ("license in height", "must be a list"),
    ],
)
def test_anything_else_is_refused_by_name(expression: str, sentence: str) -> None:
    with pytest.raises(WhereError, match=sentence):
        select(TABLE, expression)
