"""What Prometheus reads of a service."""

from collections.abc import Callable
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from engine.deliveries import DeliveryStatus
from engine.progress import AttemptEnded, CallEnded, Progress, RunEnded, RunStarted
from engine.requests import AnsweredRequest
from flows.values import RunStatus

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """Counts what it observes; ``gauges`` are read when Prometheus asks, by name with what they mean."""

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]]) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._runs = Counter(
            "stepbox_runs", "Runs that ended, subflows not counted.", ("flow", "status"), registry=registry
        )
        self._run_time = Histogram(
            "stepbox_run_seconds", "From a run's start to its end.", registry=registry, buckets=_SECONDS
        )
        self._queue_time = Histogram(
            "stepbox_run_queued_seconds", "From a run's request to its start.", registry=registry, buckets=_SECONDS
        )
        self._attempts = Counter("stepbox_attempts", "Attempts of steps that ended.", ("status",), registry=registry)
        self._attempt_time = Histogram(
            "stepbox_attempt_seconds", "What attempts of steps took.", registry=registry, buckets=_SECONDS
        )
        self._calls = Counter("stepbox_tool_calls", "Calls of tools that ended.", ("tool", "status"), registry=registry)
        self._requests = Counter(
            "stepbox_http_requests", "Requests answered.", ("method", "route", "status"), registry=registry
        )
        self._request_time = Histogram(
            "stepbox_http_request_seconds", "What requests took.", ("route",), registry=registry, buckets=_SECONDS
        )
        self._runs_now = {
            RunStatus.QUEUED: Gauge("stepbox_queued_runs", "Runs that wait to be driven.", registry=registry),
            RunStatus.WAITING: Gauge(
                "stepbox_waiting_runs", "Runs that wait for a person, a time or an event.", registry=registry
            ),
        }
        self._deliveries_now = Gauge(
            "stepbox_deliveries",
            "Events at triggers that have no end yet, or are dead.",
            ("status",),
            registry=registry,
        )
        self.code_waiting = Gauge(
            "stepbox_code_waiting", "Attempts whose code waits for a slot of its workspace.", registry=registry
        )
        for name, (meaning, read) in gauges.items():
            Gauge(name, meaning, registry=registry).set_function(read)

    def notice(self, progress: Progress) -> None:
        """See :class:`engine.progress.Observer`."""
        if isinstance(progress, RunStarted):
            run = progress.run
            if run.started_at is not None and not progress.again:
                self._queue_time.observe(max(0.0, (run.started_at - run.created_at).total_seconds()))
        elif isinstance(progress, RunEnded):
            if progress.run.status is RunStatus.WAITING:
                return
            self._runs.labels(progress.run.flow, progress.run.status.value).inc()
            self._run_time.observe(progress.run.took or 0.0)
        elif isinstance(progress, CallEnded):
            self._calls.labels(progress.call.tool, "failed" if progress.call.error else "succeeded").inc()
        elif isinstance(progress, AttemptEnded):
            self._attempts.labels(progress.attempt.status.value).inc()
            self._attempt_time.observe(progress.attempt.duration)

    def requested(self, request: AnsweredRequest) -> None:
        """Count a request that was answered."""
        route = request.route or "unmatched"
        self._requests.labels(request.method, route, str(request.status)).inc()
        self._request_time.labels(route).observe(request.seconds)

    def runs_now(self, status: Literal[RunStatus.QUEUED, RunStatus.WAITING], count: int) -> None:
        """Say how many runs have that status."""
        self._runs_now[status].set(count)

    def deliveries_now(self, status: DeliveryStatus, count: int) -> None:
        """Say what has become of how many events at triggers."""
        self._deliveries_now.labels(status.value).set(count)

    def text(self) -> bytes:
        """Everything, in Prometheus's text format."""
        return generate_latest(self._registry)
