"""A worker: it holds the models, and writes the video of every job that it is given.

Of the service it alone imports the model and torch. `serving.slot` is the process around it.
"""

import errno
import faulthandler
import logging
import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import av
import diffusers
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from model import film
from model.host import Host, Pipeline, ServedModel
from model.pipeline import (
    CheckpointError,
    GenerationRequest,
    Progress,
    RequestError,
    Sink,
    Video,
    VideoPipeline,
)
from model.video import recording, retime, spritesheet, thumbnail
from serving.catalog import Entry
from serving.database import UNAVAILABLE
from serving.files import VARIANTS, Files
from serving.intake import Unfit
from serving.intake.frames import read_video
from serving.logs import about
from serving.mark import marked
from serving.provenance import Provenance
from serving.resolved import Resolved
from serving.rewriter import RewriteFailed, rewrite
from serving.room import NO_MEMORY, has_room
from serving.sketches import Sketches
from serving.store import Store
from serving.tables import FAILED, Row
from serving.tracing import span

RETRY_SECONDS = 1.0
"""Between two tries while the database is away."""
PROGRESS_SECONDS = 0.05
"""Between two writes of how far a job is: whoever writes keeps others waiting, on SQLite all."""
BROKEN = 70
"""A worker's exit status (sysexits.h, EX_SOFTWARE) where another process may do better."""
UNEXPLAINED = "generation_failed", "model_unavailable"
"""Codes of failures whose reason is for the log alone: it may name files of this machine."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_STAGES = {"text": (0, 2), "denoise": (2, 94), "decode": (94, 97), "encode": (97, 99)}
"""Share of the whole, in percent, that each stage is shown as."""

log = logging.getLogger("kinetograph.worker")
T = TypeVar("T")


class Superseded(Exception):
    """The job was cancelled, deleted or started anew elsewhere: this attempt must stop."""


class Worker:
    """One device, making one video at a time."""

    def __init__(
        self,
        host: Host,
        served: Sequence[Entry],
        store: Store,
        files: Files,
        slot: str,
        step_timeout: float,
        provenance: Provenance,
        mark: str | None = None,
    ) -> None:
        self._host = host
        self._served = {entry.name: entry for entry in served}
        self._store = store
        self._files = files
        self._slot = slot
        self._step_timeout = step_timeout
        self._provenance, self._mark = provenance, mark
        self._device = threading.Lock()  # held by the job at hand; by a worker that stops, for ever
        self._stopping = False
        self._current: Row | None = None
        self._away_until = self._told_until = 0.0
        self.at_hand: str | None = None

    def make_video(self, video_id: str) -> None:
        """Run the job of that id from its start, and record how it ends."""
        with self._device:
            self.at_hand, self._told_until = video_id, 0.0
            try:
                row = self._current = self._insist(lambda: self._store.start(video_id, self._slot))
                if row is None:
                    self._tidy(video_id)
                else:
                    facts = {"video_id": row["id"], "model": row["model"]}
                    with (
                        about(request_id=row["request_id"], video_id=row["id"]),
                        span("make_video", row["trace"], attempt=row["attempt"], **facts),
                    ):
                        self._make(row)
            except BaseException:  # such as a panic in Rust: nothing here can be relied on any more
                log.critical("%s broke this worker, which ends here", video_id, exc_info=True)
                os._exit(BROKEN)
            finally:
                faulthandler.cancel_dump_traceback_later()
                self.at_hand = self._current = None

    def stop(self, grace: float) -> None:
        """Take no more jobs; hand the one at hand back unless it ends within `grace` seconds."""
        if self._device.acquire(timeout=grace):
            return
        self._stopping = True
        if self._current is not None:
            with suppress(*UNAVAILABLE):  # then another worker finds it
                self._store.hand_back(self._current)

    def _make(self, row: Row) -> None:
        try:
            self._run(row)
            spent = time.time() - row["started_at"]
            log.info("%s attempt %d completed in %.1f s", row["id"], row["attempt"], spent)
        except Superseded as place:
            if self._stopping:  # to return would tell the queue that the job is done
                threading.Event().wait()
            told = "%s attempt %d stopped %s: cancelled or taken over"
            log.info(told, row["id"], row["attempt"], place)
        except Exception as error:
            code, message = diagnose(error)
            # A refusal may quote the prompt, which is none of the log's business.
            trace = error if code in UNEXPLAINED else None
            log.warning("%s attempt %d failed: %s", row["id"], row["attempt"], code, exc_info=trace)
            self._insist(lambda: self._store.fail(row, code, message))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _tidy(self, video_id: str) -> None:
        """Remove what the attempts have left that died with their workers, if the job failed."""
        row = self._insist(lambda: self._store.get(video_id))
        if row is None or row["status"] != FAILED:
            return
        try:
            self._files.keep_only(video_id, row["attempt"])
            self._files.discard(video_id, row["attempt"])
        except Exception as error:  # it goes with the record
            log.warning("%s: something is left of it: %s", video_id, type(error).__name__)

    def _run(self, row: Row) -> None:
        resolved = Resolved(**row["resolved"])
        log.info(
            "%s attempt %d begins: %d frames of %s in %d steps",
            *(row["id"], row["attempt"], resolved.num_frames, resolved.rendered_size),
            resolved.num_inference_steps,
        )
        try:
            self._files.prepare(row["id"], row["attempt"])
            paths = {v: self._files.path(row["id"], row["attempt"], v) for v in VARIANTS}
            with recording(paths["video"], resolved.fps, resolved.scale) as sink:
                video = self._render(row, resolved, lambda part: sink(self._marked(part)))
                begun = time.perf_counter()
                self._advance(row, _STAGES["encode"][0])
            frames = self._marked(video.frames)
            thumbnail(frames, paths["thumbnail"], scale=resolved.scale)
            spritesheet(frames, paths["spritesheet"], scale=resolved.scale)
            folder = self._files.inputs(row["id"])
            inputs = {name: folder / file for name, file in row["inputs"].items()}
            self._provenance.sign(paths["video"], row["resolved"], inputs)
            self._files.store(row["id"], row["attempt"])
            timings = {"queue": row["started_at"] - row["created_at"], **video.timings}
            timings["encode"] = time.perf_counter() - begun
            rounded = {stage: round(seconds, 3) for stage, seconds in timings.items()}
            if not self._insist(lambda: self._store.complete(row, rounded)):
                raise Superseded("at its end")
        except BaseException:
            self._files.discard(row["id"], row["attempt"])
            raise
        self._files.keep_only(row["id"], row["attempt"])

    def _render(self, row: Row, resolved: Resolved, sink: Sink) -> Video:
        pipeline, inputs = self._open(resolved), self._inputs(row, resolved)
        resolved = self._rewritten(row, resolved)
        sketches = Sketches(self._store.engine, row)
        with closing(sketches), closing(render(pipeline, resolved, sink, **inputs)) as events:
            for event in events:
                if isinstance(event, Video):
                    self._note_length(row, resolved, len(event.frames))
                    return event
                self._advance(row, percent(event), event.step if event.stage == "denoise" else None)
                sketches.offer(event.step, event.preview)
        raise RuntimeError("the pipeline ended without a video")

    def _note_length(self, row: Row, resolved: Resolved, length: int) -> None:
        """A video that goes on from another has more frames than were drawn, a loop fewer."""
        if length != resolved.num_frames:
            told = asdict(replace(resolved, file_frames=length))
            self._insist(lambda: self._store.amend(row, told))

    def _marked(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return frames if self._mark is None else marked(frames, self._mark)

    def _open(self, resolved: Resolved) -> Pipeline:
        if resolved.model not in self._served:
            raise RequestError("model", resolved.model, ", ".join(self._served))
        # Weights may have to be fetched first, and nobody can tell how long that takes.
        faulthandler.cancel_dump_traceback_later()
        shape = (resolved.width, resolved.height, resolved.longest)
        pipeline = self._host.open(resolved.model, shape, resolved.references, resolved.lora)
        self._watch()
        return pipeline

    def _rewritten(self, row: Row, resolved: Resolved) -> Resolved:
        """The request with its prompt as the model's rewriter has it; noted for later attempts."""
        rewriter = self._served[resolved.model].prompt_rewriter
        if rewriter is None or resolved.shots or resolved.rewritten_prompt is not None:
            return resolved
        try:
            resolved = replace(resolved, rewritten_prompt=rewrite(resolved.prompt, rewriter))
        except RewriteFailed as error:
            log.warning("%s: the prompt is left as it is: %s", row["id"], error)
            text = f"prompt: it was not rewritten, as {error}."
            resolved = replace(resolved, warnings=[*resolved.warnings, text])
        if not self._insist(lambda: self._store.amend(row, asdict(resolved))):
            raise Superseded("at its prompt")
        return resolved

    def _inputs(self, row: Row, resolved: Resolved) -> dict[str, Any]:
        """What came with the request, by the field of the `GenerationRequest` that it fills."""
        folder = self._files.inputs(row["id"])
        return {name: _opened(folder / file, resolved.fps) for name, file in row["inputs"].items()}

    def _advance(self, row: Row, progress: int, step: int | None = None) -> None:
        self._watch()
        instant = time.monotonic()
        if instant < self._away_until:
            return
        try:
            if instant < self._told_until:
                mine = self._store.holds(row)
            else:
                mine = self._store.advance(row, progress, step)
                self._told_until = time.monotonic() + PROGRESS_SECONDS
        except UNAVAILABLE:  # a step need not wait for the database, only the end must
            self._away_until = time.monotonic() + RETRY_SECONDS
            return
        if not mine:
            raise Superseded(f"at step {step}")

    def _watch(self) -> None:
        """Restart the clock of the watchdog, which ends this process if a job stands still.

        It needs nothing of the interpreter, so that it bites even where a kernel holds its lock,
        and it says where every thread stood.
        """
        faulthandler.dump_traceback_later(self._step_timeout, exit=True, file=2)

    def _insist(self, write: Callable[[], T]) -> T:
        """What `write` gives once the database is there: the work that it records is done."""
        told = False
        while True:
            with suppress(RuntimeError):  # no room for its thread: to write matters more
                self._watch()
            try:
                return write()
            except UNAVAILABLE as error:
                if not told:
                    log.warning("waiting for the database (%s)", type(error).__name__)
                told = True
                time.sleep(RETRY_SECONDS)


def _opened(path: Path, fps: int) -> Image.Image | NDArray[np.uint8]:
    """A picture, or the frames `(T, H, W, 3)` of a video as they are shown at another rate."""
    if path.suffix == ".png":
        return Image.open(path).convert("RGB")
    return retime(*read_video(path, fps), fps)


def diagnose(error: Exception) -> tuple[str, str]:
    """The code and the words by which a job fails with `error`."""
    if isinstance(error, RequestError):
        return "invalid_request", str(error)
    if isinstance(error, Unfit):
        return "invalid_request", f"video must be {error}."
    number = getattr(error, "errno", None)
    if _starved(error) or (error.__cause__ and _starved(error.__cause__)):
        message = "The device ran out of memory; ask for a smaller size or fewer seconds."
        return "out_of_memory", message
    if isinstance(error, CheckpointError):
        return "model_unavailable", "The model cannot be opened; the service's log says why."
    if number in FULL:
        return "storage_full", "The service has no room left to store the video."
    return "generation_failed", f"The video could not be made ({type(error).__name__})."


def _starved(error: BaseException) -> bool:
    """Whether `error` is memory that was not to be had."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    number = getattr(error, "errno", None)
    if isinstance(error, RuntimeError | ImportError):
        return any(words in str(error).lower() for words in NO_MEMORY)
    # x264 fails without a reason, and FFmpeg so where a thread finds no room for its stack.
    unexplained = isinstance(error, av.error.ExternalError | av.error.BlockingIOError)
    return number == errno.ENOMEM or (unexplained and not has_room())


def load(model: str, device: str | None = None) -> VideoPipeline:
    """Open a checkpoint folder or hub id, without drawing a bar for every file.

    Raises:
        CheckpointError: if it cannot be opened.
    """
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
    return VideoPipeline.from_pretrained(model, device)


def render(
    pipeline: Pipeline,
    resolved: Resolved,
    sink: Sink | None = None,
    **conditions: Any,
) -> Generator[Progress | Video]:
    """Render a resolved request: progress at every step, the video last.

    sink: as for `VideoPipeline.generate`. conditions: further fields of the `GenerationRequest`.
    """
    request = GenerationRequest(
        prompt=resolved.rewritten_prompt or resolved.prompt,
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
        strength=resolved.strength,
        lora=resolved.lora,
        **{"loop": resolved.loop, **conditions},
    )
    shots = [film.Shot(**shot) for shot in resolved.shots or ()]
    return film.generate(pipeline, request, shots, sink)


def percent(event: Progress) -> int:
    """How much of a job is done, from 0 to 99, when the pipeline reports `event`."""
    first, last = _STAGES[event.stage]
    return first + (last - first) * event.step // event.steps


class CannotOpen(Exception):
    """A model is such that nothing can be served; a sentence says why."""


def open_host(
    served: Sequence[Entry],
    device: str,
    memory_limit: float | None = None,
    compiled: bool = False,
    sharing: int = 1,
) -> Host:
    """Describe what is served, and open the default, so that what is wrong is known at once.

    memory_limit: GB of the device; None: a share of what is free. compiled, sharing: as in `Host`.

    Raises:
        CannotOpen: if a checkpoint cannot be described, or the default not be opened.
    """
    limit = None if memory_limit is None else int(memory_limit * 1e9)
    try:
        models = [ServedModel(**entry.served()) for entry in served]
        host = Host(models, device, limit, compiled, sharing)
        host.open(served[0].name)
    except CheckpointError as error:
        raise CannotOpen(str(error)) from None
    return host


def next_device(index: int) -> str:
    """The GPU of the worker of that number on this machine, or the CPU where there is none."""
    return f"cuda:{index % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu"
