"""What the API does, apart from HTTP: rows, jobs and files in step with one another."""

import math
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from sqlalchemy.exc import IntegrityError
from starlette.datastructures import UploadFile

from serving import extension, orders
from serving.answers import ShotMade, Verification, Video, VideoError, VideoPage
from serving.caller import Caller
from serving.egress import Egress, Forbidden
from serving.errors import ApiError
from serving.estimates import Shape
from serving.expiry import discard
from serving.fairness import at_cap, queue_full, rank, take_turn
from serving.files import Files
from serving.intake import Unfit
from serving.intake.jail import JAIL
from serving.jobs import JobQueue
from serving.keys import Key, Keys, spend
from serving.listing import conditions
from serving.logs import note_prompt
from serving.metrics import Metrics
from serving.models import check_abilities, choose
from serving.orders import Order
from serving.policy import Policy
from serving.previews import Previews
from serving.resolved import Description, Resolved, shortest_decimal
from serving.schema import (
    CreateVideo,
    EditVideo,
    ExtendVideo,
    ListVideos,
    RemixVideo,
    VerifyVideo,
)
from serving.standing import Standings
from serving.store import Store
from serving.tables import COMPLETED, Row
from serving.uploads import Input, SourceVideo, fetched, read_made, read_upload
from serving.values import VideoAddress, VideoReference
from serving.webhooks import Secrets

INHERITED = {
    *("negative_prompt", "num_inference_steps", "guidance_scale", "guidance_scale_2"),
    *("flow_shift", "lora"),
}
"""What a remix takes over from its source unless it says otherwise."""


class Service:
    """The parts that every request works with.

    lease: seconds of silence after which a worker counts as gone. most_queued: jobs that a user may
    have waiting.
    """

    def __init__(
        self,
        store: Store,
        jobs: JobQueue,
        files: Files,
        lease: float = 15.0,
        most_queued: int = 1000,
        egress: Egress | None = None,
        policy: Policy | None = None,
        anchors: Path | None = None,
    ) -> None:
        self.store, self.jobs, self.files = store, jobs, files
        self.keys, self._secrets = Keys(store.engine), Secrets(store.engine)
        self.previews = Previews(store.engine)
        self._anchor_file = anchors
        self._egress, self._policy = egress or Egress(), policy or Policy()
        self._most_queued = most_queued
        # SQLite gives its lock to whoever asks at the right moment, and in a crowd some never do.
        sqlite = store.engine.dialect.name == "sqlite"
        self._one_by_one = threading.Lock() if sqlite else nullcontext()
        self._lease, self._standings = lease, Standings(store, lease)
        self.metrics = Metrics(store, lease)
        self._key: Key | None = None

    def within(self, key: Key | None) -> Self:
        """The same service, as it is for the holder of a key: to it there is nobody else.

        None: for whoever may see and do everything.
        """
        scoped = copy(self)
        scoped._key = key
        return scoped

    def create(self, asked: CreateVideo, caller: Caller) -> Video:
        """Queue a job; under a key that was used before, give the job it made then.

        Raises:
            ApiError: for a request that no served model can fulfil, or a key of another request.
        """
        models = self.models()
        check_abilities(asked, choose(asked.model, models), models)
        return self._submit(orders.create(asked, self._egress), caller)

    def remix(self, video_id: str, asked: RemixVideo, caller: Caller) -> Video:
        """Queue a job that starts from a completed video and keeps its settings but the prompt."""
        known = {model["name"] for model in self.models()}  # refuses before a file is open
        row, source = self._source(video_id, "video_id")
        kept = {name: row["request"][name] for name in INHERITED & set(row["request"])}
        fields = kept | asked.model_dump(exclude_unset=True)
        fields |= {"video": {"id": video_id}, "fps": row["resolved"]["fps"]}
        fields |= {"model": row["model"]} if row["model"] in known else {}
        return self._submit(orders.edit(EditVideo.parse(fields), source, video_id), caller)

    def edit(self, asked: EditVideo, caller: Caller) -> Video:
        """Queue a job that starts from an uploaded or completed video."""
        source_id, source = self._given(asked.video, "video")
        return self._submit(orders.edit(asked, source, source_id), caller)

    def extend(self, asked: ExtendVideo, caller: Caller) -> Video:
        """Queue a job that goes on from a video, and leads into another one if there is any."""
        extension.check(asked, self.models())
        source_id, source = self._given(asked.video, "video")
        with ExitStack() as stack:
            stack.callback(source.file.close)  # even if the other one is refused
            to = asked.next_video
            following = self._given(to, "next_video")[1] if to else None
            return self._submit(orders.extend(asked, source, following, source_id), caller)

    def _given(
        self, video: UploadFile | VideoReference | VideoAddress, param: str
    ) -> tuple[str | None, SourceVideo]:
        if isinstance(video, VideoReference):
            return video.id, self._source(video.id, param)[1]
        return None, read_upload(video, param, self._egress)

    def _completed(self, video_id: str, param: str) -> Row:
        row = self.get(video_id, param)
        if row["status"] != COMPLETED:
            message = f"{param} must be the id of a completed video; {video_id} is {row['status']}."
            raise ApiError(message, param=param, code="video_not_ready")
        return row

    def _source(self, video_id: str, param: str) -> tuple[Row, SourceVideo]:
        row = self._completed(video_id, param)
        made = (video_id, row["attempt"], "video")
        return row, read_made(self.files.open(*made), self.files.local(*made), video_id, param)

    def _submit(self, order: Order, caller: Caller) -> Video:
        with ExitStack() as stack:
            for file in order.inputs.values():
                stack.callback(file.close)
            return self._accept(order, caller)

    def _accept(self, order: Order, caller: Caller) -> Video:
        request, key = order.request, caller.idempotency_key
        if key and (row := self.store.get_by_idempotency_key(key)):
            return self._again(row, request)
        note_prompt(order.text)
        self._check_webhook(order.asked.webhook_url)
        resolved = asdict(order.resolve(self.models()))
        named = order.inputs.items()
        pictures: list[Input | None] = [f for name, f in named if name in ("image", "last_image")]
        for picture in pictures or [None]:
            self._policy.check(order.text, picture.read if picture else None)
        row = self._row(order, resolved, caller)
        try:
            if order.inputs:
                self._check_cap(row["user_id"])  # before anything is stored in vain
            for file in order.inputs.values():
                file.keep(self.files.inputs(row["id"]))
            if order.inputs:
                self.files.store_inputs(row["id"])
            self._queue(row)
        except IntegrityError:  # two requests raced with one key; the other one won
            self.files.remove(row["id"])
            if key and (winner := self.store.get_by_idempotency_key(key)):
                return self._again(winner, request)
            raise
        except BaseException:
            self.files.remove(row["id"])
            raise
        return self.look(row["id"])

    def _row(self, order: Order, resolved: dict[str, Any], caller: Caller) -> dict[str, Any]:
        shape = Shape.of(resolved)
        return {
            "id": f"video_{uuid4().hex}",
            "model": resolved["model"],
            "request": order.request,
            "resolved": resolved,
            "steps": shape.steps,
            "shape": shape.key,
            "idempotency_key": caller.idempotency_key,
            "user_id": caller.user_id(order.asked.user),
            "key_id": self._key.id if self._key else "",
            "priority": order.asked.priority,
            "source_id": order.source_id,
            "request_id": caller.request_id,
            "trace": caller.trace,
            "inputs": {name: file.name for name, file in order.inputs.items()},
        }

    def _anchors(self) -> str:
        """The authority of this service, which a worker makes; "" until then."""
        with suppress(FileNotFoundError):
            return self._anchor_file.read_text("ascii") if self._anchor_file else ""
        return ""

    def _check_webhook(self, url: str | None) -> None:
        if url is None:
            return
        try:
            self._egress.check(url)
        except Forbidden as error:
            raise ApiError(f"webhook_url must be {error}.", param="webhook_url") from None
        if not self._secrets.of(self._key.id if self._key else ""):
            name = f" {self._key.name}" if self._key else ""
            message = "webhook_url needs a secret to sign with, which is made by the operator's "
            message += f"`kinetograph webhooks secret{name}`."
            raise ApiError(message, param="webhook_url", code="no_webhook_secret")

    def _check_cap(self, user: str) -> None:
        with self.store.transaction() as connection:
            full = at_cap(connection, user, self._cap)
        if full:
            raise queue_full(self._cap, self._standings.until_start(user))

    @property
    def _cap(self) -> int:
        return (self._key and self._key.queued) or self._most_queued

    def _queue(self, row: dict[str, Any]) -> None:
        with self._one_by_one:
            self._insert(row)

    def _insert(self, row: dict[str, Any]) -> None:
        with self.store.transaction() as connection:
            user, priority = row["user_id"], row["priority"]
            turn = take_turn(connection, user, priority, self._cap)
            if turn is None:
                raise queue_full(self._cap, self._standings.until_start(user))
            if self._key:
                spend(connection, self._key)
            # Its age decides between equal turns, here as in the queue: so not before its turn.
            self.store.insert(connection, row | {"turn": turn, "created_at": time.time()})
        # A job that is not queued, because we were killed here, is found by the sweeper.
        self.jobs.enqueue(row["id"], rank(priority, turn))

    def _again(self, row: Row, request: dict[str, Any]) -> Video:
        if row["request"] != request:
            message = "This Idempotency-Key was used with another request."
            headers = {"x-should-retry": "false"}
            raise ApiError(message, code="idempotency_key_reused", status=422, headers=headers)
        return self.view(row)

    def look(self, video_id: str) -> Video:
        """How a job stands. Raises ApiError 404 if there is none."""
        return self.view(self.get(video_id))

    def get(self, video_id: str, param: str = "video_id") -> Row:
        """The row of a job. Raises ApiError 404 if there is none."""
        row = self.store.get(video_id)
        foreign = row is not None and self._key is not None and row["key_id"] != self._key.id
        if row is None or foreign or (row["expires_at"] or math.inf) <= time.time():
            message = f"There is no video {video_id[:80]!a}."
            raise ApiError(message, param=param, code="video_not_found", status=404)
        return row

    def page(self, request: ListVideos) -> VideoPage:
        """A page of the list, newest first unless asked otherwise."""
        key_id = self._key.id if self._key else None
        after = self.store.get(request.after) if request.after else None
        if request.after and (after is None or key_id not in (None, after["key_id"])):
            message = f"after must be the id of a video, not {request.after[:80]!a}."
            raise ApiError(message, param="after")
        # One more than asked tells whether there are more.
        newest_first = request.order == "desc"
        which = conditions(request)
        rows = self.store.page(after, request.limit + 1, newest_first, key_id, which)
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
        standing = self._standings.of(row)
        return Video(
            id=row["id"],
            created_at=int(row["created_at"]),
            completed_at=_whole(row["completed_at"]),
            expires_at=_whole(row["expires_at"]),
            model=row["model"],
            progress=row["progress"],
            prompt=resolved.prompt,
            rewritten_prompt=resolved.rewritten_prompt,
            remixed_from_video_id=row["source_id"],
            seconds=resolved.seconds,
            size=resolved.size,
            status=row["status"],
            error=VideoError(**row["error"]) if row["error"] else None,
            seed=resolved.seed,
            fps=resolved.fps,
            num_frames=resolved.frames,
            num_inference_steps=resolved.num_inference_steps,
            guidance_scale=resolved.guidance_scale,
            guidance_scale_2=resolved.guidance_scale_2,
            flow_shift=resolved.flow_shift,
            negative_prompt=resolved.negative_prompt,
            strength=resolved.strength,
            lora=resolved.lora,
            loop=resolved.loop,
            shots=[_shot(shot, resolved.fps) for shot in resolved.shots or ()] or None,
            rendered_size=resolved.rendered_size,
            queue_position=standing.queue_position,
            eta_seconds=standing.eta_seconds,
            timings=row["timings"],
            warnings=resolved.warnings,
        )

    def finished(self, video_id: str) -> Row:
        """The row of a completed video. Raises ApiError 404."""
        row = self.get(video_id)
        if row["status"] != COMPLETED:
            message = f"The video {row['id']} is not there: its status is {row['status']}."
            headers = {"x-should-retry": "false"}
            raise ApiError(message, code="video_not_ready", status=404, headers=headers)
        return row

    def cancel(self, video_id: str) -> Video:
        """Stop a job that is not over; a job that is over is left as it is.

        The row alone says so: a worker finds out at its next write, or when it would have started.
        """
        self.get(video_id)
        self.store.cancel(video_id)
        return self.look(video_id)

    def delete(self, video_id: str) -> None:
        """Forget a video and its files; a job that is not over is stopped as in `cancel`."""
        discard(self.store, self.jobs, self.files, self.get(video_id)["id"])

    def verify(self, asked: VerifyVideo) -> Verification:
        """Who made a video, by its manifest. Raises ApiError for what is no MP4."""
        if isinstance(asked.video, VideoReference):
            row = self._completed(asked.video.id, "video")
            file = self.files.open(row["id"], row["attempt"], "video")
        else:
            file = fetched(asked.video, "video", self._egress)
        with file:
            try:
                return Verification(**JAIL.verify(file, self._anchors()))
            except Unfit as error:
                message = f"video must be {error}."
                raise ApiError(message, param="video", code=error.code) from None

    def served(self) -> Sequence[Row]:
        """What is served, as `Store.models`."""
        return self.store.models(self._lease)

    def models(self) -> Sequence[Description]:
        """What is served, the default first. Raises ApiError 503 until a worker is ready."""
        described = [row["description"] for row in self.served()]
        if not described:
            message, headers = "The model is still being loaded.", {"retry-after": "1"}
            raise ApiError(message, code="model_loading", status=503, headers=headers)
        return described

    def check_ready(self) -> None:
        """Raise ApiError 503 unless a worker is alive and holds a model."""
        self.models()
        if not self._standings.any_worker():
            raise ApiError("No worker is alive.", code="no_worker", status=503)


def _shot(shot: Mapping[str, Any], fps: int) -> ShotMade:
    return ShotMade(seconds=shortest_decimal(shot["num_frames"] / fps), **shot)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)
