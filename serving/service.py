"""What the API does, apart from HTTP: rows, jobs and files in step with one another."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy.exc import IntegrityError

from serving.errors import ApiError
from serving.files import VARIANTS, Files
from serving.jobs import JobQueue
from serving.models import Description, Resolved, resolve
from serving.schema import CreateVideo, ListVideos, Video, VideoError, VideoPage
from serving.store import COMPLETED, QUEUED, UNFINISHED, Row, Store

ALIVE_SECONDS = 15.0
"""A worker that has been silent for longer counts as gone."""


@dataclass(frozen=True)
class Service:
    """The parts that every request works with."""

    store: Store
    jobs: JobQueue
    files: Files

    def create(self, request: CreateVideo, idempotency_key: str | None) -> Video:
        """Queue a job; under a key that was used before, give the job it made then.

        Raises:
            ApiError: for a request that no served model can fulfil, or a key of another request.
        """
        asked = request.model_dump(exclude_unset=True)
        if idempotency_key and (row := self.store.get_by_idempotency_key(idempotency_key)):
            return self._again(row, asked)
        resolved = resolve(request, self.models())
        row = {
            "id": f"video_{uuid4().hex}",
            "created_at": time.time(),
            "model": resolved.model,
            "request": asked,
            "resolved": asdict(resolved),
            "steps": resolved.num_inference_steps,
            "idempotency_key": idempotency_key or None,
        }
        try:
            with self.store.transaction() as connection:
                self.store.insert(connection, row)
                self.jobs.enqueue(connection, row["id"])
        except IntegrityError:  # two requests raced with one key; the other one won
            if idempotency_key and (row := self.store.get_by_idempotency_key(idempotency_key)):
                return self._again(row, asked)
            raise
        return self.view(self.get(row["id"]))

    def _again(self, row: Row, asked: dict[str, object]) -> Video:
        if row["request"] != asked:
            message = "This Idempotency-Key was used with another request."
            headers = {"x-should-retry": "false"}
            raise ApiError(message, code="idempotency_key_reused", status=422, headers=headers)
        return self.view(row)

    def get(self, video_id: str) -> Row:
        """The row of a job. Raises ApiError 404 if there is none."""
        row = self.store.get(video_id)
        if row is None:
            message = f"There is no video {video_id[:80]!a}."
            raise ApiError(message, param="video_id", code="video_not_found", status=404)
        return row

    def page(self, request: ListVideos) -> VideoPage:
        """A page of the list, newest first unless asked otherwise."""
        after = self.store.get(request.after) if request.after else None
        if request.after and after is None:
            message = f"after must be the id of a video, not {request.after[:80]!a}."
            raise ApiError(message, param="after")
        # One more than asked tells whether there are more.
        rows = self.store.page(after, request.limit + 1, newest_first=request.order == "desc")
        data = [self.view(row) for row in rows[: request.limit]]
        return VideoPage(
            data=data,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            has_more=len(rows) > request.limit,
        )

    def view(self, row: Row) -> Video:
        """A row as the wire shows it."""
        resolved = Resolved(**row["resolved"])
        position = self.store.queue_position(row) if row["status"] == QUEUED else None
        ended = row["completed_at"]
        return Video(
            id=row["id"],
            created_at=int(row["created_at"]),
            completed_at=None if ended is None else int(ended),
            model=row["model"],
            progress=row["progress"],
            prompt=resolved.prompt,
            seconds=resolved.seconds,
            size=resolved.size,
            status=row["status"],
            error=VideoError(**row["error"]) if row["error"] else None,
            seed=resolved.seed,
            fps=resolved.fps,
            num_frames=resolved.num_frames,
            rendered_size=resolved.rendered_size,
            queue_position=position,
            eta_seconds=self._eta(row, position),
            timings=row["timings"],
            warnings=resolved.warnings,
        )

    def _eta(self, row: Row, position: int | None) -> float | None:
        """Seconds until the job should be over, going by the model's latest jobs."""
        usual = self.store.usual_seconds(row["model"]) if row["status"] in UNFINISHED else None
        if usual is None:
            return None
        if position is not None:
            return round(usual * (position + 1), 1)
        return round(max(usual - (time.time() - float(row["started_at"])), 0.0), 1)

    def artifact(self, row: Row, variant: str) -> tuple[Path, str, str]:
        """Path, media type and entity tag of a finished video's file. Raises ApiError 404."""
        if row["status"] != COMPLETED:
            message = f"The video {row['id']} is not there: its status is {row['status']}."
            headers = {"x-should-retry": "false"}
            raise ApiError(message, code="video_not_ready", status=404, headers=headers)
        path = self.files.path(row["id"], row["attempt"], variant)
        return path, VARIANTS[variant][1], f'"{row["id"]}-{row["attempt"]}-{variant}"'

    def cancel(self, video_id: str) -> Video:
        """Stop a job that is not over; a job that is over is left as it is.

        The row alone says so: a worker finds out at its next write, or when it would have started.
        """
        self.get(video_id)
        self.store.cancel(video_id)
        return self.view(self.get(video_id))

    def delete(self, video_id: str) -> None:
        """Forget a video and its files; a job that is not over is stopped as in `cancel`."""
        over = self.get(video_id)["status"] not in UNFINISHED
        self.store.delete(video_id)
        if over:  # else the queue still has to hand it to a worker, or to see it return
            self.jobs.forget(video_id)
        self.files.remove(video_id)

    def models(self) -> Sequence[Description]:
        """What is served, the default first. Raises ApiError 503 until a worker is ready."""
        if not (rows := self.store.models()):
            message, headers = "The model is still being loaded.", {"retry-after": "1"}
            raise ApiError(message, code="model_loading", status=503, headers=headers)
        return [row["description"] for row in rows]

    def check_ready(self) -> None:
        """Raise ApiError 503 unless a worker is alive and holds a model."""
        self.models()
        if all(row["heartbeat_at"] < time.time() - ALIVE_SECONDS for row in self.store.models()):
            raise ApiError("No worker is alive.", code="no_worker", status=503)
