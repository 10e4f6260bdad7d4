"""One job that fails is one job that fails: the row says why, and the worker goes on."""

import errno
import faulthandler
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import sqlalchemy as sa
import torch

import serving.worker
from model.host import Host
from model.pipeline import CheckpointError, VideoPipeline
from model.video import write_mp4
from serving import leases
from serving.catalog import Entry, Rewriter, entries
from serving.files import Files
from serving.leases import Lease
from serving.models import resolve
from serving.provenance import Provenance
from serving.resolved import Description
from serving.rewriter import RewriteFailed
from serving.schema import CreateVideo
from serving.settings import Settings
from serving.store import Store
from serving.tables import Row
from serving.worker import Worker, open_host
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
def served(checkpoint: Path) -> list[Entry]:
    return entries(Settings(model=str(checkpoint)))


@pytest.fixture(scope="module")
def host(served: list[Entry]) -> Host:
    return open_host(served, "cpu")


@pytest.fixture
def bench(host: Host, served: list[Entry], tmp_path: Path) -> Iterator[Bench]:
    store = Store(f"sqlite:///{tmp_path / 'test.db'}")
    store.create_tables()
    root = tmp_path / "videos"
    provenance = Provenance.of(tmp_path / "provenance", None, None, False)
    worker = Worker(host, served, store, Files(root), "worker-0", 900, provenance)
    yield Bench(worker, cast(VideoPipeline, host.open("tiny")), store, root)
    store.close()


def test_a_finished_job_has_its_three_files_and_its_steps(bench: Bench) -> None:
    row = bench.run("v")
    assert (row["status"], row["step"], row["steps"], row["owner"]) == (
        *("completed", 2, 2, "worker-0"),
    )
    assert bench.files() == ["v/1.jpg", "v/1.mp4", "v/1.webp"]


def test_frames_are_encoded_while_others_are_decoded_and_the_file_is_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The bytes are those of frames written all at once, but for the signature."""
    told: list[str] = []
    original = serving.worker.recording

    @contextmanager
    def recording(*args: Any) -> Iterator[Any]:
        with original(*args) as sink:

            def noted(frames: Any) -> None:
                kept.append(frames.copy())
                told.append("part")
                sink(frames)

            yield noted

    kept: list[Any] = []
    advance = bench.worker._advance
    monkeypatch.setattr(serving.worker, "recording", recording)
    monkeypatch.setattr(bench.worker._provenance, "sign", lambda *_: None)
    monkeypatch.setattr(
        bench.worker, "_advance", lambda *args: told.append(f"{args[1]}") or advance(*args)
    )
    row = bench.run("v")
    parts = [number for number, what in enumerate(told) if what == "part"]
    decoded = told.index("97")  # from which on nothing is left but to encode
    assert len(parts) >= 2 and parts[0] < decoded
    write_mp4(tmp_path / "at_once.mp4", np.concatenate(kept), row["resolved"]["fps"])
    assert (bench.root / "v" / "1.mp4").read_bytes() == (tmp_path / "at_once.mp4").read_bytes()


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (torch.OutOfMemoryError("1 TiB"), "out_of_memory", "a smaller size or fewer seconds"),
        (MemoryError("/secret"), "out_of_memory", "a smaller size or fewer seconds"),
        (RuntimeError("/secret: can't allocate memory"), "out_of_memory", "a smaller size"),
        (RuntimeError("unable to start watchdog thread"), "out_of_memory", "a smaller size"),
        (ImportError("x.so: failed to map segment"), "out_of_memory", "a smaller size"),
        (OSError(errno.ENOSPC, "/secret"), "storage_full", "no room left"),
        (RuntimeError("/secret"), "generation_failed", "(RuntimeError)"),
        (ZeroDivisionError("/secret/path"), "generation_failed", "(ZeroDivisionError)"),
        (ValueError("/secret/path"), "generation_failed", "(ValueError)"),
        (CheckpointError("/secret/path"), "model_unavailable", "the service's log says why"),
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


def test_a_rewritten_prompt_is_kept_for_the_next_attempt_and_a_failure_is_told(
    bench: Bench, served: list[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def rewriter(prompt: str, _: Rewriter) -> str:
        asked.append(prompt)
        if len(asked) > 1:
            raise RewriteFailed("no answer within 30 s")
        return EXAMPLES[1]

    monkeypatch.setattr(serving.worker, "rewrite", rewriter)
    endpoint = Rewriter(url="http://here", model="words")
    rewriting = [served[0].model_copy(update={"prompt_rewriter": endpoint})]
    bench.worker._served = {entry.name: entry for entry in rewriting}
    first, second = bench.run("v"), bench.run("w")
    assert first["status"] == second["status"] == "completed" and asked == [EXAMPLES[0]] * 2
    assert first["resolved"]["rewritten_prompt"] == EXAMPLES[1]
    assert second["resolved"]["rewritten_prompt"] is None
    assert second["resolved"]["warnings"][-1].endswith("not rewritten, as no answer within 30 s.")
    bench.run("x", rewritten_prompt=EXAMPLES[1])
    assert len(asked) == 2


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


def test_progress_is_written_seldom_and_a_cancelled_job_stops_at_its_next_step_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int | None] = []
    looked: list[str] = []
    advance, holds = bench.store.advance, bench.store.holds

    def noted(row: Row, progress: int, step: int | None = None) -> bool:
        written.append(step)
        return advance(row, progress, step)

    def look(row: Row) -> bool:
        looked.append(row["id"])
        if looked.count("w") == 7:
            assert bench.store.cancel("w")
        return holds(row)

    monkeypatch.setattr(serving.worker, "PROGRESS_SECONDS", 3600.0)
    monkeypatch.setattr(bench.store, "advance", noted)
    monkeypatch.setattr(bench.store, "holds", look)
    row = bench.run("v", num_inference_steps=3)
    assert (row["status"], row["step"], len(written)) == ("completed", row["steps"], 1)
    row = bench.run("w", num_inference_steps=100)
    assert (row["error"]["code"], len(written), looked.count("w")) == ("cancelled", 2, 7)
    monkeypatch.setattr(serving.worker, "PROGRESS_SECONDS", 0.0)
    bench.run("x", num_inference_steps=3)
    assert [step for step in written[2:] if step is not None] == [0, 1, 2, 3]


@pytest.mark.parametrize(("grace", "ends"), [(0, ("queued", 3)), (60, ("completed", 2))])
def test_a_stopping_worker_finishes_its_job_within_the_grace_or_hands_it_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, grace: float, ends: tuple[str, int]
) -> None:
    """It is asked to stop in the middle of the only job, by another thread, as by a signal."""
    advance, begun, asked = bench.store.advance, threading.Event(), threading.Event()

    def slowly(row: Row, progress: int, step: int | None = None) -> bool:
        begun.set()
        asked.wait()
        if grace == 0:  # the hand-back is under way; this attempt must find out by itself
            stopper.join()
        return advance(row, progress, step)

    monkeypatch.setattr(bench.store, "advance", slowly)
    # The thread of a job that was handed back never returns: the queue would take it for done.
    job = threading.Thread(target=lambda: bench.run("v"), daemon=True)
    stopper = threading.Thread(target=lambda: bench.worker.stop(grace))
    job.start()
    begun.wait()
    stopper.start()
    asked.set()
    stopper.join(120)
    row = bench.store.get("v")
    assert row and (row["status"], row["attempts_left"]) == ends
    assert bench.worker.at_hand == ("v" if grace == 0 else None)


def test_what_is_done_is_recorded_once_the_database_is_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress that cannot be noted is left out; the start and the end are tried again."""
    calls: dict[str, int] = {}

    def away_at_first(name: str) -> Any:
        original = getattr(bench.store, name)

        def write(*args: Any) -> Any:
            calls[name] = calls.get(name, 0) + 1
            if calls[name] == 1:
                raise sa.exc.OperationalError("UPDATE", {}, Exception("connection refused"))
            return original(*args)

        return write

    monkeypatch.setattr(serving.worker, "RETRY_SECONDS", 0.01)
    for name in ("start", "advance", "complete"):
        monkeypatch.setattr(bench.store, name, away_at_first(name))
    row = bench.run("v")
    assert (row["status"], row["attempt"], calls["start"], calls["complete"]) == (
        *("completed", 1, 2, 2),
    )
    assert bench.files() == ["v/1.jpg", "v/1.mp4", "v/1.webp"]


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


def test_the_remains_of_a_job_that_failed_for_good_are_removed_and_its_inputs_kept(
    bench: Bench,
) -> None:
    bench.run("v", model="yesterday's")  # it fails, and its folder is gone
    for name in ("inputs/video.mp4", "1.mp4", "1.webp", ".1.jpg.abc.part"):
        (bench.root / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (bench.root / "v" / name).write_bytes(b"half")
    bench.worker.make_video("v")  # as a queue does that knows of no end
    assert bench.files() == ["v/inputs"]
    done = bench.run("w")
    bench.worker.make_video("w")
    assert done["status"] == "completed" and "w/1.mp4" in bench.files()


def test_a_long_kernel_does_not_starve_the_heartbeat(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    lease = Lease(bench.store.engine, "a", "cpu", 15)
    lease.take()
    beats: list[float] = []
    beat = lease._beat
    monkeypatch.setattr(lease, "_beat", lambda: beats.append(time.monotonic()) or beat())
    heart = threading.Thread(target=lambda: lease.hold(lambda: None))
    heart.start()
    begun = time.monotonic()
    torch.linalg.svd(torch.rand(2000, 2000))  # one call, of a second or so
    ended = time.monotonic()
    leases.evict(bench.store.engine, "a")
    heart.join(10)
    during = [begun, *(beat for beat in beats if begun < beat < ended), ended]
    gaps = [after - before for before, after in zip(during, during[1:], strict=False)]
    # Each beat waits for its disk and for a turn on a busy machine; starved, it would be one gap.
    assert ended - begun > 0.3 and max(gaps) < (ended - begun) / 2


def test_a_failure_is_recorded_where_not_even_a_watchdog_can_be_started(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(*_: Any, **__: Any) -> None:
        raise RuntimeError("unable to start watchdog thread")

    def starve(*_: Any) -> Any:
        monkeypatch.setattr(faulthandler, "dump_traceback_later", no_thread)
        raise MemoryError

    monkeypatch.setattr(bench.pipeline, "decode", starve)
    monkeypatch.setattr(os, "_exit", lambda status: pytest.fail("the worker ended itself"))
    row = bench.run("v")
    assert (row["status"], row["error"]["code"]) == ("failed", "out_of_memory")


def test_a_panic_ends_the_worker_and_not_only_the_job(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in Rust breaks what it shares with every later job, and is no `Exception`."""

    class Panic(BaseException):
        pass

    class Exited(BaseException):
        pass

    def panic(*_: Any) -> Any:
        raise Panic

    def leave(status: int) -> None:
        raise Exited(status)

    monkeypatch.setattr(bench.pipeline, "decode", panic)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Exited, match="70"):
        bench.run("v")
    row = bench.store.get("v")
    assert row and (row["status"], row["attempts_left"]) == ("in_progress", 2)
    assert bench.files() == []
