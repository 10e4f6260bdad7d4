"""Clips from any server that speaks `/v1/videos`.

Each job is written down when it is created and when it ends, so that a run that stops goes on
where it was: finished clips are never asked for again, and a job in flight is waited for. A job
that failed has failed; asking again would give a model two tries.
"""

import hashlib
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from benchmarks.physics.cases import Row, write_rows

REFUSALS = ("moderation_blocked", "content_policy_violation")
"""Error codes by which a job that was taken is refused after all."""
NOT_THE_CLIP = (401, 403, 404, 429, 502, 503, 504)
"""Statuses that speak of the key, the model, a limit or a server that is not ready: asked later,
the clip may well be made."""
POLL = (0.1, 5.0)
"""Seconds between polls: the first, growing by a half to the last."""


class ServerGone(Exception):
    """The server cannot be reached, or will not serve us now: nothing to do with a clip."""


@dataclass(frozen=True)
class Server:
    """Where to ask for clips, and how; `params` are sent with every prompt."""

    base_url: str
    model: str | None
    params: dict[str, Any]
    send_seed: bool = True
    timeout: float = 3600.0

    def fields(self, row: Row) -> dict[str, Any]:
        """The body of a request."""
        body = {"prompt": row["prompt"], **self.params}
        if self.model:
            body["model"] = self.model
        if self.send_seed and row["seed"] is not None:
            body["seed"] = row["seed"]
        return body

    def name(self, row: Row) -> str:
        """The file of a row's clip: of its case and of everything that its pixels hang on."""
        asked = json.dumps([self.base_url, self.fields(row), row["repeat"]], sort_keys=True)
        digest = hashlib.sha256(asked.encode()).hexdigest()[:12]
        readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in str(row["case_id"]))
        return f"{readable[:80]}-{row['repeat']}-{digest}.mp4"


def generate(
    server: Server,
    rows: Sequence[Row],
    folder: Path,
    parallel: int,
    tell: Callable[[str], None] = print,
) -> None:
    """Have a server make a clip of each row and write them with `prompts.jsonl` into a folder.

    Raises:
        ServerGone: if the server cannot be reached; run again to go on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [_Job(server, row, folder / server.name(row)) for row in rows]
    waiting = [job for job in jobs if not job.ended]
    cases = len({row["case_id"] for row in rows})
    tell(f"{cases} cases, {len(rows)} clips, {len(rows) - len(waiting)} of them there already")
    past = [job.record["seconds"] for job in jobs if job.ended and "seconds" in job.record]
    client = openai.OpenAI(
        base_url=server.base_url,
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        max_retries=4,
    )
    with client, ThreadPoolExecutor(parallel) as pool:
        if waiting and not past:  # one clip alone says how long all of them will take
            waiting[0].run(client)
            past = [waiting.pop(0).record["seconds"]]
        if waiting:
            each = statistics.median(past)
            total = each * len(waiting) / parallel
            tell(f"about {total / 60:.0f} min: {each:.1f} s a clip, {parallel} at a time")
        for done, _ in enumerate(pool.map(lambda job: job.run(client), waiting), 1):
            if done % 10 == 0:
                tell(f"{done} of {len(waiting)}")
    for text, clips in Counter(text for job in jobs for text in job.remarks).most_common():
        tell(f"{clips} of {len(jobs)} clips {text}")
    write_rows(folder / "prompts.jsonl", [job.listed() for job in jobs])


class _Job:
    """One row's clip and the record of its job, a JSON file beside it."""

    def __init__(self, server: Server, row: Row, path: Path) -> None:
        self.server, self.row, self.path = server, row, path
        self.note = path.with_suffix(".json")
        self.record: dict[str, Any] = (
            json.loads(self.note.read_text()) if self.note.exists() else {}
        )

    @property
    def ended(self) -> bool:
        return self.path.exists() or self.record.get("status") in ("failed", "refused")

    @property
    def remarks(self) -> list[str]:
        """Why there is no clip, or what the server warned of."""
        if "error" in self.record:
            return [f"{self.record['status']}: {self.record['error']}"]
        return [f"made, with a warning: {text}" for text in self.record.get("warnings", ())]

    def listed(self) -> Row:
        """The row with its file, or with what happened instead."""
        if self.path.exists():
            return {**self.row, "file": self.path.name}
        return {**self.row, "status": self.record["status"], "error": self.record["error"]}

    def run(self, client: openai.OpenAI) -> None:
        begun = time.perf_counter()
        try:
            self._make(client)
            end = {"status": "made"}
        except openai.APIConnectionError as error:
            raise ServerGone(f"{self.server.base_url}: {error}") from None
        except openai.APIStatusError as error:
            if error.status_code in NOT_THE_CLIP and error.code not in REFUSALS:
                if error.status_code == 404:  # a job that the server has lost is asked for anew
                    self._write({})
                raise ServerGone(f"{self.server.base_url}: {error.message}") from None
            refused = error.status_code < 500
            end = {"status": "refused" if refused else "failed", "error": error.message}
        except _Ended as error:
            end = {"status": error.status, "error": str(error)}
        self._write({**self.record, **end, "seconds": time.perf_counter() - begun})

    def _make(self, client: openai.OpenAI) -> None:
        if "id" not in self.record:
            video = client.post("/videos", body=self.server.fields(self.row), cast_to=object)
            self._write({"id": _fields(video)["id"]})
        self._wait(client)
        content = client.get(f"/videos/{self.record['id']}/content", cast_to=httpx.Response).content
        part = self.path.with_suffix(".part")
        part.write_bytes(content)
        os.replace(part, self.path)

    def _wait(self, client: openai.OpenAI) -> None:
        pause, last = POLL
        deadline = time.monotonic() + self.server.timeout
        while True:
            video = _fields(client.get(f"/videos/{self.record['id']}", cast_to=object))
            if video["status"] == "completed":
                self.record["warnings"] = [str(text) for text in video.get("warnings") or ()]
                return
            if video["status"] == "failed":
                error = video.get("error") or {}
                status = "refused" if error.get("code") in REFUSALS else "failed"
                raise _Ended(status, error.get("message") or "the job failed")
            if time.monotonic() > deadline:
                raise _Ended("failed", f"not ready after {self.server.timeout:.0f} s")
            time.sleep(pause)
            pause = min(1.5 * pause, last)

    def _write(self, record: dict[str, Any]) -> None:
        self.record = record
        part = self.note.with_suffix(".json.part")
        part.write_text(json.dumps(record))
        os.replace(part, self.note)


class _Ended(Exception):
    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


def _fields(answer: object) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ServerGone(f"the server answered {str(answer)[:80]!r}, which is no JSON object")
    return answer
