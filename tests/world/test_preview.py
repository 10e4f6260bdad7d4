"""The preview command writes a sheet with a row for each clip and says what it cannot do."""

import pytest
from PIL import Image

from world.__main__ import main


def test_a_sheet_has_a_row_for_each_background(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["preview", "-o", str(sheet), "--family", "drop", "--size", "16"]) == 0
    assert "4 clips" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.size == (9 * (16 * 3 + 2), 4 * (16 * 3 + 2 + 14))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-o", "/dev/null/sheet.png"], "/dev/null"),
        (["-o", "sheet.png", "--size", "2"], "size is 2"),
        (["-o", "sheet.png", "--seed", "-1"], "seed is -1"),
        (["-o", "sheet.png", "--scale", "0"], "--scale is 0"),
        (["-o", "sheet.txt", "--family", "drop", "--size", "8"], "unknown file extension"),
    ],
)
def test_what_it_cannot_do_is_said(arguments, complaint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["preview", *arguments])
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err
