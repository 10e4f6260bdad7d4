"""One job that fails is one job that fails: the row says why, and the worker goes on."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch

import serving.worker
from model.pipeline import VideoPipeline
from serving.files import Files
from serving.models import Description, resolve
from serving.schema import CreateVideo
from serving.store import Row, Store
from serving.worker import Worker, load
from tests.serving.conftest import EXAMPLES


@dataclass
class Bench:
    """A worker on the tiny model, without a queue."""

    worker: Worker
    pipeline: VideoPipeline
    store: Store
    root: Path

    def run(self, video_id: str, **changes: Any) -> Row:
        """Queue a job, run it and give its row."""
        model = cast(Description, asdict(self.pipeline.description))
        request = CreateVideo.parse({"prompt": EXAMPLES[0], "size": "64x64"})
        with self.store.transaction() as connection:
            row = {"id": video_id, "created_at": time.time(), "model": "tiny", "steps": 2}
            resolved = asdict(resolve(request, [model])) | changes
            self.store.insert(connection, row | {"request": {}, "resolved": resolved})
        self.worker.make_video(video_id)
        done = self.store.get(video_id)
        assert done
        return done

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.glob("*/*"))


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path) -> VideoPipeline:
    return load(str(checkpoint))


@pytest.fixture
def bench(pipeline: VideoPipeline, tmp_path: Path) -> Iterator[Bench]:
    store = Store(f"sqlite:///{tmp_path / 'test.db'}")
    store.create_tables()
    root = tmp_path / "videos"
    yield Bench(Worker(pipeline, store, Files(root)), pipeline, store, root)
    store.close()


def test_a_finished_job_has_its_three_files_and_its_steps(bench: Bench) -> None:
    row = bench.run("v")
    assert (row["status"], row["step"], row["steps"], row["owner"]) == (
        *("completed", 2, 2, "worker-0"),
    )
    assert bench.files() == ["v/1.jpg", "v/1.mp4", "v/1.webp"]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (torch.OutOfMemoryError("1 TiB"), "out_of_memory", "a smaller size or fewer seconds"),
        (ZeroDivisionError("/secret/path"), "generation_failed", "(ZeroDivisionError)"),
        (ValueError("/secret/path"), "generation_failed", "(ValueError)"),
    ],
)
def test_an_error_fails_the_job_and_not_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, words: str
) -> None:
    def broken(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(bench.pipeline, "decode", broken)
        row = bench.run("bad")
    assert (row["status"], row["error"]["code"]) == ("failed", code)
    assert words in row["error"]["message"] and "secret" not in row["error"]["message"]
    assert bench.files() == []
    assert bench.run("good")["status"] == "completed"


def test_what_the_pipeline_refuses_is_the_job_s_error_word_for_word(bench: Bench) -> None:
    row = bench.run("v", num_frames=16)
    assert row["error"] == {
        "code": "invalid_request",
        "message": "num_frames is 16; allowed: 9, 17",
    }
    row = bench.run("w", model="yesterday's")
    assert row["error"]["message"] == 'model is "yesterday\'s"; allowed: tiny'


@pytest.mark.parametrize("stage", ["denoise", "encode"])
def test_an_attempt_that_is_overtaken_publishes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Another worker takes the job over while this one is at it."""
    owner, place = {
        "denoise": (bench.pipeline, "decode"),
        "encode": (serving.worker, "spritesheet"),
    }[stage]
    original = getattr(owner, place)

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        bench.store.start("v", "worker-1")
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, place, overtaken)
    row = bench.run("v")
    assert (row["status"], row["attempt"], row["owner"]) == ("in_progress", 2, "worker-1")
    assert row["error"] is None and bench.files() == []


def test_a_stopping_worker_hands_its_job_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = bench.store.advance

    def stopping(row: Row, progress: int, step: int | None = None) -> bool:
        if progress > 40:
            bench.worker.hand_back()
        return advance(row, progress, step)

    monkeypatch.setattr(bench.store, "advance", stopping)
    row = bench.run("v")
    assert (row["status"], row["attempts_left"]) == ("queued", 3)


def test_the_remains_of_a_crashed_attempt_are_swept_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bench.root / "v").mkdir(parents=True)
    for name in ("1.mp4", ".1.jpg.abc.part"):
        (bench.root / "v" / name).write_bytes(b"half")
    start = bench.store.start

    def start_again(video_id: str, executor: str) -> Row | None:
        return start(video_id, executor) and start(video_id, executor)

    monkeypatch.setattr(bench.store, "start", start_again)
    assert bench.run("v")["attempt"] == 2
    assert bench.files() == ["v/2.jpg", "v/2.mp4", "v/2.webp"]
