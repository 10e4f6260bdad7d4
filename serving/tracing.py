"""OpenTelemetry traces, from the request through the queue to the worker: an optional extra.

`pip install kinetograph[otel]` and OTEL_EXPORTER_OTLP_ENDPOINT switch them on; without either,
nothing here does anything. No span holds a prompt.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    trace = None  # type: ignore[assignment]

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def configure(service: str) -> None:
    """Send the spans of this process where the environment says, if it does."""
    if trace is None or not os.environ.get(ENDPOINT):
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"kinetograph-{service}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)


@contextmanager
def span(name: str, parent: str = "", **attributes: Any) -> Iterator[None]:
    """A span around a block; parent: the `traceparent` of one in another process, if any."""
    if trace is None:
        yield
        return
    context = TraceContextTextMapPropagator().extract({"traceparent": parent}) if parent else None
    tracer = trace.get_tracer("kinetograph")
    with tracer.start_as_current_span(name, context, attributes=attributes):
        yield


def traceparent() -> str:
    """The span at hand, as W3C Trace Context has it (level 1, section 3.2); "" if there is none."""
    carrier: dict[str, str] = {}
    if trace is not None:
        TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent", "")
