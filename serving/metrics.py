"""Figures of the service in Prometheus' form: sums and levels of the fleet, and of this process.

What the database has is read when it is asked for, so every API process tells the same of it. No
label holds anything that a client wrote.
"""

import math
import time
from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving import tallies
from serving.database import now
from serving.fairness import PRIORITIES
from serving.store import Store
from serving.tables import IN_PROGRESS, QUEUED, deliveries, keys, videos, workers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SUMS = {
    "ended": ("jobs", "Jobs that are over.", "status", "code"),
    "attempts": ("attempts", "Starts of jobs, repeated ones too.", "model"),
    "started": ("jobs_started", "Jobs that have left the queue.", "priority"),
    "wait_seconds": ("queue_wait_seconds", "Seconds that these were queued.", "priority"),
    "stage_seconds": ("stage_seconds", "Seconds of completed jobs.", "model", "stage"),
    "steps": ("steps", "Denoising steps of completed jobs.", "model"),
    "gpu_seconds": ("gpu_seconds", "Seconds that workers had on jobs, by API key.", "key"),
}
"""Name, meaning and labels of each tally, as it is exported with `kinetograph_` and `_total`."""


class Metrics:
    """What is exported by one API process."""

    def __init__(self, store: Store, lease: float) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_OfFleet(store, lease))
        labels = ("method", "route", "status")
        self._requests = Counter(
            "kinetograph_http_requests", "Requests answered.", labels, registry=self._registry
        )
        self._seconds = Histogram(
            *("kinetograph_http_request_seconds", "Seconds until an answer began.", ("route",)),
            registry=self._registry,
        )

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All figures, in Prometheus' text format."""
        return generate_latest(self._registry)


class _OfFleet(Collector):
    def __init__(self, store: Store, lease: float) -> None:
        self._store, self._lease = store, lease

    def describe(self) -> Iterable[Metric]:
        return []  # so that nothing is read when it is registered

    def collect(self) -> Iterator[Metric]:
        with self._store.transaction() as connection:
            found = tallies.read(connection)
            names = {key: name for key, name in connection.execute(_NAMES)}
            yield from _levels(connection, self._lease)
        for name, (exported, meaning, *labels) in SUMS.items():
            family = CounterMetricFamily(f"kinetograph_{exported}", meaning, labels=labels)
            for values, value in sorted(found.get(name, {}).items()):
                shown = [names.get(v, v) if "key" in labels else v for v in values[: len(labels)]]
                family.add_metric(shown, value)
            yield family


def _levels(connection: sa.Connection, lease: float) -> Iterator[Metric]:
    clock = now(connection)
    queued = sa.select(videos.c.priority, sa.func.count(), sa.func.min(videos.c.created_at))
    queued = queued.where(videos.c.status == QUEUED).group_by(videos.c.priority)
    by_class = {name: (count, oldest) for name, count, oldest in connection.execute(queued)}
    instant = time.time()
    depth = GaugeMetricFamily("kinetograph_queue_depth", "Jobs queued.", labels=["priority"])
    oldest = GaugeMetricFamily(
        "kinetograph_queue_oldest_seconds", "Age of the oldest job queued.", labels=["priority"]
    )
    for name in PRIORITIES:
        count, since = by_class.get(name, (0, math.inf))
        depth.add_metric([name], count)
        oldest.add_metric([name], max(instant - since, 0.0))
    yield from (depth, oldest)
    recent = sa.and_(workers.c.heartbeat_at > clock - lease, workers.c.state == "ready")
    for name, meaning, of in (
        ("jobs_in_progress", "Jobs that run.", videos.c.status == IN_PROGRESS),
        ("workers_alive", "Workers that take jobs.", recent),
        ("webhooks_due", "Events that have not arrived and will be tried.", _DUE),
    ):
        count = connection.scalar(sa.select(sa.func.count()).where(of)) or 0
        yield GaugeMetricFamily(f"kinetograph_{name}", meaning, value=count)


_NAMES = sa.select(keys.c.id, keys.c.name)
_DUE = deliveries.c.due_at.is_not(None)
