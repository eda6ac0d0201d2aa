"""Traces over OTLP: the only module that knows OpenTelemetry. It is imported where there is an endpoint, not before.

Spans are made of records once what they stand for has ended, so that nothing of a span has to outlive a restart. They
are sent by a thread of the SDK's, in batches from a bounded queue: a collector that is slow or away costs
spans, no run.

:class:`engine.settings.TraceSettings` says whether there are traces. All else that the environment has of them, such as
headers, timeouts, sampling, batches and attributes of the resource, the SDK reads by itself.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from secrets import token_hex
from threading import Thread
from typing import Final

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind, Status, StatusCode

from engine.progress import Progress
from engine.records import RunSummary
from engine.requests import AnsweredRequest
from engine.spans import Span, span_of, span_of_request
from engine.trace_context import KEPT, TraceContext, current, span_id, trace_id

_log = logging.getLogger(__name__)

CLOSE_WITHIN: Final = 2.0
"""Seconds in which the last spans may be sent as the process ends. What takes longer is lost."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_KINDS: Final = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER}


class Tracing:
    """Implements :class:`engine.trace_context.Traces`. Libraries don't know of it, so they add no spans."""

    def __init__(self) -> None:
        # What is sent once more after a failure is no news; what is lost is.
        logging.getLogger("opentelemetry").setLevel(logging.ERROR)
        self._ids = _GivenIds()
        self._provider = TracerProvider(resource=_resource(), id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("stepbox", version("stepbox"))

    async def close(self) -> None:
        """Send what has not been sent, for as long as :data:`CLOSE_WITHIN`."""
        # Not a thread of asyncio's, which the end of the process would wait for.
        over = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            self._provider.shutdown()
            if not loop.is_closed():
                loop.call_soon_threadsafe(over.set)

        Thread(target=end, name="last spans", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await over.wait()
        except TimeoutError:
            _log.warning("the last spans are lost: the collector didn't take them within %g s", CLOSE_WITHIN)

    def of_run(self, run: RunSummary) -> TraceContext:
        parent = TraceContext.parse(run.trigger.get(KEPT))
        return self._context(f"run {run.flow}", parent, own=span_id(run.id), begins=trace_id(run.id))

    def of_request(self, traceparent: str | None) -> TraceContext:
        return self._context("HTTP", TraceContext.parse(traceparent), own=token_hex(8), begins=token_hex(16))

    def requested(self, request: AnsweredRequest) -> None:
        here = current()
        if here is not None and here.sampled:
            self._record(span_of_request(request, here))

    def notice(self, progress: Progress) -> None:
        here = current()
        if here is not None and here.sampled:
            span = span_of(progress, here)
            if span is not None:
                self._record(span)

    def _context(self, name: str, parent: TraceContext | None, *, own: str, begins: str) -> TraceContext:
        """The context of a span below ``parent``, or of one that begins a trace; the sampler says if it is recorded."""
        trace = begins if parent is None else parent.trace_id
        sampled = self._provider.sampler.should_sample(_above(parent), int(trace, 16), name)
        return TraceContext(
            trace_id=trace, span_id=own, sampled=sampled.decision is Decision.RECORD_AND_SAMPLE, own=True
        )

    def _record(self, span: Span) -> None:
        parent = None
        if span.parent is not None:
            parent = TraceContext(trace_id=span.context.trace_id, span_id=span.parent, sampled=True)
        attributes = {name: value for name, value in span.attributes.items() if value is not None}
        if span.error is not None:
            attributes["error.type"] = span.error
        with self._ids.being(span.context):
            begun = self._tracer.start_span(
                span.name,
                context=_above(parent),
                kind=_KINDS[span.kind],
                attributes=attributes,
                start_time=_nanoseconds(span.began_at),
            )
        if span.error is not None:
            begun.set_status(Status(StatusCode.ERROR))
        begun.end(_nanoseconds(span.ended_at))


class _GivenIds(IdGenerator):
    """Gives the span that is being made the ids that it has been given."""

    def __init__(self) -> None:
        self._given: TraceContext | None = None
        self._random = RandomIdGenerator()

    @contextmanager
    def being(self, context: TraceContext) -> Iterator[None]:
        """Give these ids inside the block, in which nothing else is made."""
        self._given = context
        try:
            yield
        finally:
            self._given = None

    def generate_span_id(self) -> int:
        return self._random.generate_span_id() if self._given is None else int(self._given.span_id, 16)

    def generate_trace_id(self) -> int:
        return self._random.generate_trace_id() if self._given is None else int(self._given.trace_id, 16)


def _resource() -> Resource:
    """What the spans are of: ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` come before what we know."""
    given = OTELResourceDetector().detect().attributes
    return Resource.create({"service.name": "stepbox", "service.version": version("stepbox"), **given})


def _above(parent: TraceContext | None) -> Context:
    """A context of OpenTelemetry's with this span; without one it is empty."""
    if parent is None:
        return Context()
    known = api.SpanContext(
        trace_id=int(parent.trace_id, 16),
        span_id=int(parent.span_id, 16),
        is_remote=True,
        trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED if parent.sampled else api.TraceFlags.DEFAULT),
    )
    return api.set_span_in_context(api.NonRecordingSpan(known), Context())


def _nanoseconds(at: datetime) -> int:
    """Since 1970, without the rounding of a float."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
