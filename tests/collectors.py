"""An OTLP/HTTP collector of the test's own: what it is sent is decoded as OpenTelemetry's protocol has it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from gzip import decompress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage

DEADLINE = 60.0
"""Seconds after which a span that should have come never will."""

Value = str | int | bool


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A span as it came. ``parent`` is empty where it begins a trace, ``kind`` is the protocol's name of it."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    failed: bool
    began: int
    ended: int
    attributes: Mapping[str, Value]
    resource: Mapping[str, Value]


@dataclass
class Collector:
    """What has been sent. While ``lets_go`` is cleared, no request is answered."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    lets_go: Event = field(default_factory=Event)
    asked: Event = field(default_factory=Event)

    def named(self, name: str, count: int = 1) -> Sequence[Seen]:
        """The spans of that name, once there are so many. For threads that may wait."""
        deadline = time.monotonic() + DEADLINE
        while len(found := [span for span in self.spans if span.name == name]) < count:
            assert time.monotonic() < deadline, (name, sorted(span.name for span in self.spans))
            time.sleep(0.05)
        return found

    def take(self, body: bytes) -> None:
        self.raw.append(body)
        request = ExportTraceServiceRequest.FromString(body)
        for of_resource in request.resource_spans:
            resource = _values(of_resource.resource.attributes)
            for of_scope in of_resource.scope_spans:
                self.spans += [_seen(span, resource) for span in of_scope.spans]


@contextmanager
def collecting(*, hangs: bool = False) -> Iterator[Collector]:
    """A collector on a free port of the loopback; one that ``hangs`` takes requests and says nothing."""
    collector = Collector()
    if not hangs:
        collector.lets_go.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.headers.append(dict(self.headers))
            collector.asked.set()
            collector.lets_go.wait()
            collector.take(decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is called there
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    serving = Thread(target=server.serve_forever, daemon=True)
    serving.start()
    collector.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield collector
    finally:
        collector.lets_go.set()
        server.shutdown()
        server.server_close()
        serving.join()


def _seen(span: SpanMessage, resource: Mapping[str, Value]) -> Seen:
    return Seen(
        name=span.name,
        kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        failed=span.status.code == 2,  # STATUS_CODE_ERROR
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes=_values(span.attributes),
        resource=resource,
    )


def _values(attributes: Sequence[KeyValue]) -> dict[str, Value]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value") or "string_value") for one in attributes}
