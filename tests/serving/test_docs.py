"""What docs/service.md says of settings, codes and files is what the code has."""

import re
from pathlib import Path

import pytest

from serving import catalog, settings
from serving.answers import Video
from serving.app import create_app
from tests.serving.conftest import ROOT
from tests.serving.idle import idle_service

PAGE = ROOT / "docs" / "service.md"
CODE = "\n".join(path.read_text("utf-8") for path in (ROOT / "serving").rglob("*.py"))


@pytest.fixture
def page() -> str:
    return PAGE.read_text("utf-8")


def test_the_table_of_settings_is_the_one_that_the_code_makes(page: str) -> None:
    """`python -m serving.settings` prints the table to put there."""
    header = settings.table().splitlines()[0]
    start = page.index(header)
    assert page[start : page.index("\n\n", start)] == settings.table()
    # It is of every setting, with what a mistake in it would show.
    assert settings.table().count("\n| `--") == len(vars(settings.Settings)["__pydantic_fields__"])
    assert "| `--port` | `8000` | serve, api |" in settings.table()


def test_the_table_of_model_keys_is_the_one_that_the_code_makes(page: str) -> None:
    """`python -m serving.catalog` prints the table to put there."""
    start = page.index(catalog.table().splitlines()[0])
    assert page[start : page.index("\n\n", start)] == catalog.table()
    assert "| `prompt_rewriter.timeout` | `30.0` |" in catalog.table()


def test_every_route_is_told_and_no_other(page: str, tmp_path: Path) -> None:
    with idle_service(tmp_path) as service:
        paths = create_app(service).openapi()["paths"]
    known = {f"{method.upper()} {path}" for path, item in paths.items() for method in item}
    assert set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", page, re.MULTILINE)) == known


def test_every_option_and_code_that_is_named_is_one(page: str) -> None:
    known = {option for name in ("serve", "api", "worker") for option in settings.options(name)}
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", page))
    limits = {"--scopes", "--days", "--per-minute", "--per-day", "--queued"}
    limits |= {"--hours", "--authority"}
    assert named - known <= {"--slot", "--json", "--quick"} | limits
    failures = page[page.index("## What happens when") : page.index("## From the hosted")]
    codes = set(re.findall(r"`([a-z]+_[a-z_]+)`", failures))
    assert {"worker_crashed", "out_of_memory"} <= codes
    told = set(Video.model_fields)
    assert [code for code in codes if f'"{code}"' not in CODE and code not in told] == []


def test_every_file_that_is_linked_is_there(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page)
    assert links and all((PAGE.parent / Path(link)).exists() for link in links)
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).lower().replace(" ", "-")
        for line in page.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= headings


def test_every_test_that_the_threat_model_names_is_there() -> None:
    page = (ROOT / "docs" / "security.md").read_text("utf-8")
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", page)
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    assert len(named) == len(rows) >= 25
    for file, function in named:
        (path,) = (ROOT / "tests").glob(f"s*/{file}")  # serving, studio
        assert f"def {function}(" in path.read_text("utf-8"), f"{file} has no {function}"
