"""What a running service tells of itself: traces to a collector, a line of JSON for all that happens, metrics."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from flows.values import Json
from tests.acceptance.conftest import Stepbox, clean_environment
from tests.acceptance.services import Service, serving, until
from tests.collectors import Collector, collecting

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ORDERS = """\
flow: orders
triggers:
  - id: hook
    webhook: {path: orders, verify: none}
  - id: often
    schedule: {interval: 1s}
    if: "false"
steps:
  - {id: note, shell: echo hush-hush}
  - {id: fails, shell: exit 3}
"""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def observed(installed: Path, tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Service]:
    directory = tmp_path_factory.mktemp("observed")
    stepbox = Stepbox(bin=installed, directory=directory, environment=clean_environment())
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with serving(stepbox, "--log-format", "json", STEPBOX_LOG_FORMAT="text", **environment) as service:
        service.call("PUT", "/flows/orders", json={"text": ORDERS})
        yield service


@pytest.fixture(scope="module")
def run(observed: Service) -> str:
    """A run that a webhook has started, which has failed."""
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "X-Request-ID": "shop-17"}
    answer = httpx.post(f"http://127.0.0.1:{observed.port}/hooks/orders", json={}, headers=headers)
    assert (answer.status_code, answer.headers["x-request-id"]) == (202, "shop-17")
    found: str = answer.json()["run"]
    until(lambda: observed.call("GET", f"/runs/{found}")["status"] == "failed")
    return found


def test_a_webhook_with_a_traceparent_is_the_beginning_of_one_trace(run: str, collector: Collector) -> None:
    (ran,) = collector.named("run orders")
    (asked,) = collector.named("POST /hooks/{hook}")
    (note,) = collector.named("step note")
    (fails,) = collector.named("step fails")
    assert {span.trace for span in (ran, asked, note, fails)} == {TRACE}
    assert [span.parent for span in (asked, ran, note, fails)] == [CALLER, asked.id, ran.id, ran.id]
    assert (ran.attributes["stepbox.run.id"], ran.attributes["error.type"], ran.failed) == (run, "step_failed", True)
    assert ran.resource["service.name"] == "stepbox"
    assert not any(b"hush-hush" in body for body in collector.raw)


def test_each_line_of_the_log_says_what_it_is_about(observed: Service, run: str) -> None:
    until(lambda: any(line.get("event") == "run ended" and line.get("run") == run for line in observed.log()))
    lines = observed.log()
    assert all(list(line)[:4] == ["time", "level", "logger", "event"] for line in lines)
    of_run = [line for line in lines if line.get("run") == run]
    assert [(line["event"], line.get("step"), line.get("status")) for line in of_run] == [
        ("run started", None, None),
        ("step started", "note", None),
        ("step ended", "note", "succeeded"),
        ("step started", "fails", None),
        ("step ended", "fails", "failed"),
        ("run ended", None, "failed"),
    ]
    assert {(line["flow"], line["trace_id"], line["level"]) for line in of_run} == {("orders", TRACE, "info")}
    assert all(line["ms"] > 0 for line in of_run if "status" in line)
    (asked,) = [line for line in lines if line.get("request_id") == "shop-17"]
    assert (asked["event"], asked["path"], asked["status"], asked["trace_id"]) == (
        "request",
        "/hooks/orders",
        202,
        TRACE,
    )


@pytest.mark.parametrize("given", [None, "", "a" * 129, "a b", "é", '"', "\x7f"])
def test_a_request_id_that_is_none_is_replaced_and_every_answer_has_one(observed: Service, given: str | None) -> None:
    headers = {} if given is None else {b"X-Request-ID": given.encode("latin-1")}
    for path, token in (("/runs", True), ("/runs/7ZZ", True), ("/runs", False), ("/nothing", True)):
        request = observed.client.build_request("GET", path, headers=headers)
        if not token:
            del request.headers["Authorization"]
        answer = observed.client.send(request)
        assert re.fullmatch(r"[0-9A-Z]{26}", answer.headers["x-request-id"]), path
        if not answer.is_success:
            assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_metrics_are_what_prometheus_reads(observed: Service, run: str) -> None:
    def scraped() -> dict[str, dict[str, Json]]:
        text = httpx.get(
            f"http://127.0.0.1:{observed.port}/metrics", headers={"Authorization": f"Bearer {observed.token}"}
        ).text
        return {
            family.name: {
                json.dumps([sample.name, sample.labels], sort_keys=True): sample.value for sample in family.samples
            }
            for family in text_string_to_metric_families(text)
        }

    def value(family: str, sample: str | None = None, **labels: str) -> Json:
        return scraped()[family].get(json.dumps([sample or family, labels], sort_keys=True))

    assert run
    until(lambda: value("stepbox_runs", "stepbox_runs_total", flow="orders", status="failed") == 1.0)
    assert value("stepbox_attempts", "stepbox_attempts_total", status="failed") == 1.0
    for histogram in ("stepbox_run_seconds", "stepbox_run_queued_seconds", "stepbox_attempt_seconds"):
        assert value(histogram, f"{histogram}_count") >= 1.0, histogram
    route = {"method": "POST", "route": "/hooks/{hook}", "status": "202"}
    assert value("stepbox_http_requests", "stepbox_http_requests_total", **route) == 1.0
    until(lambda: value("stepbox_schedule_lag_seconds") > 0.0)
    assert value("stepbox_schedule_lag_seconds") < 60.0
    until(lambda: value("stepbox_ready_sandboxes") >= 1.0)
    for gauge in ("stepbox_queued_runs", "stepbox_waiting_runs", "stepbox_driven_runs", "stepbox_waiting_jobs"):
        assert value(gauge) == 0.0, gauge
    assert value("stepbox_deliveries", status="dead") == 0.0
