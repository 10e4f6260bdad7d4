"""What is exported is what happened, summed over the fleet, and no label or log holds a prompt."""

import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from serving import logs
from serving.policy import Policy
from serving.service import Service
from serving.tables import videos
from tests.serving.conftest import ROOT
from tests.serving.idle import finish, idle_service, served

SENTINEL = "sentinel-4711"
DASHBOARD = ROOT / "configs" / "deploy" / "grafana.json"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with idle_service(tmp_path) as service:
        yield service


@pytest.fixture
def api(service: Service) -> Iterator[httpx.Client]:
    with served(service) as api:
        yield api


def create(api: httpx.Client, **fields: Any) -> str:
    response = api.post("/v1/videos", json={"prompt": SENTINEL, **fields})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def figures(api: httpx.Client) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels."""
    response = api.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return {
        (sample.name.removeprefix("kinetograph_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def test_every_job_is_counted_once_however_it_ends(api: httpx.Client, service: Service) -> None:
    done, failed, cancelled, _ = (create(api) for _ in range(4))
    create(api, priority="low")
    finish(service, done, b"video")
    for _ in range(2):  # its worker died, once
        row = service.store.start(failed, "w")
    assert row and service.store.fail(row, "out_of_memory", "It is full.")
    service.cancel(cancelled)
    service.delete(cancelled)  # which takes nothing away
    api.get("/v1/videos/video_nobody")
    told = figures(api)
    assert (told["queue_depth", "normal"], told["queue_depth", "low"]) == (1, 1)
    assert told["queue_depth", "high"] == 0 and told["queue_oldest_seconds", "low"] > 0
    assert told["jobs_total", "", "completed"] == 1
    assert told["jobs_total", "out_of_memory", "failed"] == 1
    assert told["jobs_total", "cancelled", "failed"] == 1
    assert (told["attempts_total", "tiny"], told["jobs_started_total", "normal"]) == (3, 2)
    assert told["stage_seconds_total", "tiny", "denoise"] == 1.0  # as `finish` says
    assert told["steps_total", "tiny"] == 2 and told["workers_alive",] == 1
    assert told["http_requests_total", "GET", "/v1/videos/{video_id}", "404"] == 1
    assert told["http_request_seconds_count", "/v1/videos"] == 5


def test_seconds_of_workers_are_told_by_the_name_of_the_key(
    api: httpx.Client, service: Service
) -> None:
    secret, monitor = service.keys.create("shop"), service.keys.create("graph", ["metrics"])
    api.headers["authorization"] = f"Bearer {secret}"
    video_id = create(api)
    row = service.store.start(video_id, "w")
    with service.store.transaction() as connection:
        earlier = sa.update(videos).values(started_at=videos.c.started_at - 10)
        connection.execute(earlier)
    assert row and service.store.complete(row, {})
    refusal = api.get("/metrics")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "insufficient_scope")
    api.headers["authorization"] = f"Bearer {monitor}"
    # 10 s and what the test takes, on a slow machine.
    assert 10 <= figures(api)["gpu_seconds_total", "shop"] < 40


def test_the_dashboard_asks_only_for_what_is_exported(api: httpx.Client, service: Service) -> None:
    video_id = create(api)
    finish(service, video_id, b"video")
    exported: dict[str, set[str]] = {}
    for _ in range(2):  # the first scrape is itself a request
        for family in text_string_to_metric_families(api.get("/metrics").text):
            for sample in family.samples:
                exported.setdefault(sample.name, set()).update(sample.labels)
    told = re.findall(r"`(kinetograph_\w+)`", (ROOT / "docs" / "service.md").read_text())
    ours = {name.removesuffix("_count") for name in exported}
    assert told and set(told) <= ours
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(queries) >= 10
    for query in queries:
        names = re.findall(r"kinetograph_\w+", query)
        assert names and set(names) <= set(exported), query
        labels = {label for name in names for label in exported[name]}
        grouped = re.findall(r"(?:by|ignoring) \(([\w, ]+)\)|\{(\w+)", query)
        asked = {each for one, two in grouped for each in re.split(", ", one or two)}
        assert asked <= labels, query


class _Lines(logging.Handler):
    """Keeps what would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.setFormatter(logs._JSON)

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("httpx", "httpcore")):  # the test's own client
            self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    handler, root = _Lines(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler.lines
    root.removeHandler(handler)
    root.setLevel(before)


def test_a_prompt_is_in_no_log_and_no_label_whatever_happens(
    api: httpx.Client,
    service: Service,
    lines: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        # The insertion fails, with a statement whose parameters hold the prompt.
        patch.setattr("serving.service.take_turn", lambda *_: object())
        assert api.post("/v1/videos", json={"prompt": SENTINEL}).status_code == 500
    create(api, user=SENTINEL, negative_prompt=SENTINEL)
    api.get(f"/v1/videos/{SENTINEL}?x={SENTINEL}")
    api.get(f"/{SENTINEL}")
    api.request(SENTINEL.upper(), "/v1/videos")
    assert any("failed" in line["event"] for line in lines)
    for text in (json.dumps(lines), api.get("/metrics").text):
        assert SENTINEL not in text.lower()


def test_prompts_are_logged_by_the_api_where_it_is_told_to_and_in_no_label(
    api: httpx.Client, service: Service, lines: list[dict[str, Any]]
) -> None:
    logs.configure("json", logging.INFO, prompts=True)
    try:
        response = api.post("/v1/videos", json={"prompt": f"{SENTINEL}\nforged\u2028line\u3000。"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(service, "_policy", Policy([lambda *_: "a word"]))
            assert api.post("/v1/videos", json={"prompt": f"refused {SENTINEL}"}).is_client_error
    finally:
        logs.configure("json", logging.INFO)
    told = [line for line in lines if line["logger"] == "kinetograph.prompts"]
    # No break begins a line; a space of Chinese text stays one.
    events = [f"asked for '{SENTINEL}\\nforged\\u2028line\u3000。'"]
    events += [f"asked for 'refused {SENTINEL}'"]
    assert [line["event"] for line in told] == events
    assert told[0]["request_id"] == response.headers["x-request-id"]
    assert SENTINEL not in json.dumps([line for line in lines if line not in told])
    assert SENTINEL not in api.get("/metrics").text
    create(api)
    assert len([line for line in lines if SENTINEL in json.dumps(line)]) == len(told)


def test_a_request_has_one_id_from_its_answer_to_the_worker_and_one_trace(
    api: httpx.Client,
    service: Service,
    lines: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    response = api.post("/v1/videos", json={"prompt": SENTINEL})
    request_id = response.headers["x-request-id"]
    (line,) = [line for line in lines if line.get("route") == "/v1/videos"]
    assert (line["request_id"], line["status"], line["level"]) == (request_id, 200, "info")
    row = service.store.get(response.json()["id"])
    assert row is not None and row["request_id"] == request_id
    from serving.tracing import span

    with logs.about(request_id=row["request_id"]), span("make_video", row["trace"]):
        logging.getLogger("kinetograph.worker").info("begins")
    assert lines[-1]["request_id"] == request_id and lines[-1]["event"] == "begins"
    deadline = time.monotonic() + 10
    while len(exporter.get_finished_spans()) < 2:  # a request's ends after its answer has gone out
        assert time.monotonic() < deadline
        time.sleep(0.01)
    asked, made = sorted(exporter.get_finished_spans(), key=lambda span: span.parent is not None)
    assert asked.context and made.parent and made.context
    assert made.parent.span_id == asked.context.span_id
    assert made.context.trace_id == asked.context.trace_id
    assert SENTINEL not in "".join(each.to_json() for each in (asked, made))


def test_a_trace_is_no_more_than_a_wish_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from serving import tracing

    monkeypatch.setattr(tracing, "trace", None)
    tracing.configure("api")
    with tracing.span("x", "00-1-2-01", a=1):
        assert tracing.traceparent() == ""
