"""Settings check themselves, travel as JSON, and are the options of the command."""

from pathlib import Path
from typing import Any

import pytest

from serving.cli import main
from serving.settings import Settings, options


def test_settings_reach_a_worker_as_they_are_with_the_folder_spelled_out() -> None:
    settings = Settings(data=Path("here"), database="postgresql://u:p%40@h/n", lease=3)
    there = Settings.from_json(settings.to_json())
    assert there.data == Path("here").resolve()
    assert (there.database_url, there.lease) == ("postgresql+psycopg://u:p%40@h/n", 3.0)


def test_the_database_is_sqlite_in_the_data_folder_unless_given(tmp_path: Path) -> None:
    assert Settings(data=tmp_path).database_url == f"sqlite:///{tmp_path / 'kinetograph.db'}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--workers", "0"], "--workers must be greater than or equal to 1."),
        (["serve", "--port", "http"], "--port must be a valid integer"),
        (["worker", "--lease", "0"], "--lease must be greater than or equal to 1."),
        (["api", "--database", "mysql://x"], "database must begin with postgresql:// or sqlite:"),
        (["api", "--database", "here"], "database must be a URL, such as postgresql://user@host"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert told.err.startswith(f"kinetograph: {words}") and told.err.count("\n") == 1


def test_each_command_takes_what_concerns_it_and_says_what_it_is() -> None:
    every: dict[str, Any] = {command: options(command) for command in ("serve", "api", "worker")}
    assert "--port" in every["api"] and "--port" not in every["worker"]
    assert "--step-timeout" in every["worker"] and "--step-timeout" not in every["api"]
    assert all(option.description for known in every.values() for option in known.values())
