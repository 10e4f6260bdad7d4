"""A validation that was cut off goes on: what it has seen is not seen again, nothing is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.physics.validation import journal as module
from benchmarks.physics.validation.journal import Journal
from benchmarks.physics.validation.trials import CLEAN, CORRUPT, Outcome, Treatment, run

WORK = [
    (Treatment("drop", CLEAN), 2),
    (Treatment("drop", CORRUPT, "hover", 1.0), 1),
    (Treatment("count", CLEAN), 1),
]
SEED = 900_000


class Cut(Exception):
    """What ends a run in these tests."""


def outcomes(path: Path, seen: int | None = None) -> tuple[list[Outcome], int]:
    """Those of the work, and how many treatments were known; cut off after `seen` outcomes."""
    with Journal(path, SEED) as journal:
        known = sum(journal.known(item) is not None for item in WORK)
        found: list[Outcome] = []
        for outcome in run(WORK, SEED, 1, journal):
            if len(found) == seen:
                raise Cut
            found.append(outcome)
    return found, known


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Outcome]]]:
    """The journal of a run that was cut off in its second treatment, and what a whole run gives."""
    path = tmp_path_factory.mktemp("journal") / "outcomes.jsonl"
    with pytest.raises(Cut):
        outcomes(path, 2)
    text = path.read_text()
    path.unlink()
    yield text, outcomes(path)[0]
    assert not path.exists()


@pytest.mark.parametrize("torn", [False, True])
def test_it_goes_on_where_it_was_cut_off(
    tmp_path: Path, cut_off: tuple[str, list[Outcome]], torn: bool
) -> None:
    path, (text, whole) = tmp_path / "outcomes.jsonl", cut_off
    path.write_text(text + '{"treatment": {"fam' if torn else text)
    assert outcomes(path) == (whole, 2) and len(whole) == 4
    assert not path.exists()


def test_what_other_code_or_other_seeds_have_seen_counts_for_nothing(
    tmp_path: Path, cut_off: tuple[str, list[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, (text, _) = tmp_path / "outcomes.jsonl", cut_off
    path.write_text(text)
    assert Journal(path, SEED + 1).known(WORK[0]) is None
    path.write_text(text)
    monkeypatch.setattr(module, "made_by", lambda: "other code")
    assert Journal(path, SEED).known(WORK[0]) is None
    assert path.read_text().count("\n") == 1
