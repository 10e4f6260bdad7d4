"""A data set is the same, byte for byte, wherever it was killed, and whatever it was before."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.training.contrast import CALLS
from tests.training.endpoint import Endpoint
from tests.training.finetuning import write_checkpoint
from tests.training.test_prepare import everything
from tests.training.videos import even, write_video
from training.data.prepare.__main__ import main, parse_arguments

ROOT = Path(__file__).parents[2]
CLIP = ["--fps", "10", "--frames", "5", "--min-frames", "5", "--area", "64", "--workers", "1"]
SCORE = "tests.training.contrast:contrast"


def digest(asked: dict[str, Any]) -> str:
    """A caption that depends on the pictures alone."""
    return hashlib.sha256(json.dumps(asked["messages"]).encode()).hexdigest()[:12]


def prepare(*arguments: str | Path) -> None:
    main(parse_arguments([*map(str, arguments), *CLIP]))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    for k in range(3):
        write_video(folder / f"{k}.mp4", even(10, 10), seed=90 + k)
    return folder


@pytest.mark.proof
def test_killed_in_every_stage_it_is_the_same(films: Path, tmp_path: Path) -> None:
    """Nine lives, of which each dies in another stage, and what they leave is an unbroken run's."""
    base, endpoint = write_checkpoint(tmp_path / "base"), Endpoint([], digest)
    told = [films, "--model", base, "--endpoint", endpoint.url, "--score", SCORE]
    prepare(*told, "-o", tmp_path / "whole")
    script = ROOT / "tests/training/killed_prepare.py"
    command = [sys.executable, script, *told, "-o", tmp_path / "killed", *CLIP]
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    endpoint.server.shutdown()
    endpoint.server.server_close()
    print(done.stdout)
    ends = [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines()]
    assert ends == ["-9"] * 9 + ["0"], done.stderr[-2000:]
    assert everything(tmp_path / "killed") == everything(tmp_path / "whole")
    assert len(endpoint.asked) <= 2 * 6 + 8, "answers are kept, but for those under way"


def test_scores_of_ones_own_are_columns_taken_once_and_need_no_model(
    films: Path, tmp_path: Path
) -> None:
    """And they choose clips as the others do."""
    CALLS.clear()
    for where in ("contrast > 0", "contrast > 1000"):
        prepare(films, "-o", tmp_path, "--score", SCORE, "--where", where)
    assert CALLS == [5] * 6, "six clips, once each"
    rows = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert len(rows) == 6 and all(10 < row["contrast"] < 120 for row in rows)
    assert "0 clips kept of 6" in (tmp_path / "report.html").read_text()


def test_with_fewer_films_it_is_that_of_fewer(films: Path, tmp_path: Path) -> None:
    """Nothing of clips that are gone stays behind, nor of writers that were killed."""
    base = write_checkpoint(tmp_path / "base")
    few = tmp_path / "few"
    few.mkdir()
    for film in films.iterdir():
        (few / film.name).symlink_to(film)
    prepare(few, "-o", tmp_path / "one", "--model", base)
    (tmp_path / "one" / "latents" / "00007").mkdir()
    (tmp_path / "one" / "latents" / "00000.partial-123").mkdir()
    (tmp_path / "one" / ".report.html.partial-123-456").write_text("half")
    (few / "2.mp4").unlink()
    prepare(few, "-o", tmp_path / "one", "--model", base)
    prepare(few, "-o", tmp_path / "other", "--model", base)
    assert everything(tmp_path / "one") == everything(tmp_path / "other")
    assert not (tmp_path / "one" / ".report.html.partial-123-456").exists()
