"""The worker process: it holds the model, takes jobs off the queue and writes videos.

Run by `serving.supervisor`, which holds the other end of its standard input: when that closes, the
service is gone and the worker leaves too.
"""

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict

import diffusers
import torch
import transformers

from model.pipeline import (
    CheckpointError,
    GenerationRequest,
    Progress,
    RequestError,
    Video,
    VideoPipeline,
)
from model.video import spritesheet, thumbnail, write_mp4
from serving.files import VARIANTS, Files
from serving.jobs import run_jobs
from serving.models import Resolved
from serving.settings import Settings
from serving.store import Row, Store
from serving.supervisor import UNUSABLE_MODEL

EXECUTOR = "worker-0"
"""Name of this slot in the queue: stable, so that a restarted worker finds its own jobs."""
HEARTBEAT_SECONDS = 1.0

_STAGES = {"text": (0, 2), "denoise": (2, 94), "decode": (94, 97), "encode": (97, 99)}
"""Share of the whole, in percent, that each stage is shown as."""

log = logging.getLogger("kinetograph.worker")


class Superseded(Exception):
    """The job was cancelled, deleted or started anew elsewhere: this attempt must stop."""


class Worker:
    """One model on one device, making one video at a time."""

    def __init__(self, pipeline: VideoPipeline, store: Store, files: Files) -> None:
        self._pipeline = pipeline
        self._store = store
        self._files = files
        self._current: Row | None = None

    def make_video(self, video_id: str) -> None:
        """Run the job of that id from its start, and record how it ends."""
        row = self._current = self._store.start(video_id, EXECUTOR)
        if row is None:
            return
        try:
            self._run(row)
            log.info("%s completed in %.1f s", video_id, time.time() - row["started_at"])
        except Superseded:
            log.info("%s stopped: it was cancelled or taken over", video_id)
        except torch.OutOfMemoryError:
            log.warning("%s failed: out of memory", video_id)
            message = "The device ran out of memory; ask for a smaller size or fewer seconds."
            self._store.fail(row, "out_of_memory", message)
            torch.cuda.empty_cache()
        except RequestError as error:  # may quote the prompt, which is none of the log's business
            log.warning("%s failed: this model cannot do it", video_id)
            self._store.fail(row, "invalid_request", str(error))
        except Exception as error:
            log.exception("%s failed", video_id)
            message = f"The video could not be made ({type(error).__name__})."
            self._store.fail(row, "generation_failed", message)
        finally:
            self._current = None

    def hand_back(self) -> None:
        """Queue the job at hand again, for the worker that comes next."""
        if self._current is not None:
            self._store.hand_back(self._current)

    def _run(self, row: Row) -> None:
        resolved = Resolved(**row["resolved"])
        log.info(
            "%s attempt %d: %d frames of %s in %d steps",
            *(row["id"], row["attempt"], resolved.num_frames, resolved.rendered_size),
            resolved.num_inference_steps,
        )
        try:
            if resolved.model != (served := self._pipeline.description.name):
                raise RequestError("model", resolved.model, served)
            video = self._render(row, resolved)
            timings = {"queue": row["started_at"] - row["created_at"], **video.timings}
            timings["encode"] = self._encode(row, resolved, video)
            rounded = {stage: round(seconds, 3) for stage, seconds in timings.items()}
            if not self._store.complete(row, rounded):
                raise Superseded
        except BaseException:
            self._files.discard(row["id"], row["attempt"])
            raise
        self._files.keep_only(row["id"], row["attempt"])

    def _render(self, row: Row, resolved: Resolved) -> Video:
        with closing(render(self._pipeline, resolved)) as events:
            for event in events:
                if isinstance(event, Video):
                    return event
                self._advance(row, percent(event), event.step if event.stage == "denoise" else None)
        raise RuntimeError("the pipeline ended without a video")

    def _encode(self, row: Row, resolved: Resolved, video: Video) -> float:
        begun = time.perf_counter()
        self._advance(row, _STAGES["encode"][0])
        self._files.prepare(row["id"])
        paths = {v: self._files.path(row["id"], row["attempt"], v) for v in VARIANTS}
        write_mp4(paths["video"], video.frames, video.fps, scale=resolved.scale)
        thumbnail(video.frames, paths["thumbnail"], scale=resolved.scale)
        spritesheet(video.frames, paths["spritesheet"], scale=resolved.scale)
        return time.perf_counter() - begun

    def _advance(self, row: Row, progress: int, step: int | None = None) -> None:
        if not self._store.advance(row, progress, step):
            raise Superseded


def load(model: str) -> VideoPipeline:
    """Open a checkpoint folder or hub id, without drawing a bar for every file.

    Raises:
        CheckpointError: if it cannot be opened.
    """
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    return VideoPipeline.from_pretrained(model)


def render(pipeline: VideoPipeline, resolved: Resolved) -> Generator[Progress | Video]:
    """Render a resolved request: progress at every step, the video last."""
    return pipeline.generate(
        GenerationRequest(
            prompt=resolved.prompt,
            negative_prompt=resolved.negative_prompt,
            height=resolved.height,
            width=resolved.width,
            num_frames=resolved.num_frames,
            fps=resolved.fps,
            num_inference_steps=resolved.num_inference_steps,
            guidance_scale=resolved.guidance_scale,
            guidance_scale_2=resolved.guidance_scale_2,
            flow_shift=resolved.flow_shift,
            seed=resolved.seed,
        )
    )


def percent(event: Progress) -> int:
    """How much of a job is done, from 0 to 99, when the pipeline reports `event`."""
    first, last = _STAGES[event.stage]
    return first + (last - first) * event.step // event.steps


def main() -> None:
    """Load the model, say so, and run jobs until the service asks to stop or is gone."""
    settings = Settings.from_json(sys.argv[1])
    logging.basicConfig(format="%(asctime)s %(name)s %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    try:
        pipeline = load(settings.model)
    except CheckpointError as error:
        print(f"The model cannot be loaded: {error}", file=sys.stderr)
        sys.exit(UNUSABLE_MODEL)
    store = Store(settings.database_url)
    worker = Worker(pipeline, store, Files(settings.videos))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    run_jobs(settings.database_url, EXECUTOR, worker.make_video)
    store.publish_model(EXECUTOR, asdict(pipeline.description))
    while not stop.wait(HEARTBEAT_SECONDS):
        store.beat(EXECUTOR)
    worker.hand_back()
    # Not sys.exit: it would wait for the job's thread, which another attempt has replaced.
    os._exit(0)


def _leave_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
