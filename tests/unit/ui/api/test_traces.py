"""What a service tells a collector: the spans of a request, the run that it starts, its steps and its calls."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from engine.settings import InvalidSettingsError, Settings
from tests.collectors import Collector, Seen, collecting
from tests.unit.ui.api.conftest import Api, open_api

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HUSH = "hush-hush-hush"
ORDERS = """\
flow: orders
inputs: {word: {type: string}}
triggers:
  - id: hook
    webhook: {path: orders, verify: none}
    with: {word: "${{ event.body.word }}"}
steps:
  - {id: note, tool: workspace.create_task, with: {title: "${{ inputs.word }}", statusId: open}}
  - {id: say, shell: "echo $INPUT_WORD; exit 3", with: {word: "${{ inputs.word }}"}, on_error: continue}
  - {id: other, flow: quick}
"""
QUICK = """\
flow: quick
steps:
  - {id: one, shell: echo hello}
"""
ASKS = """\
flow: asks
steps:
  - {id: before, shell: echo hello}
  - {id: ask, approval: {message: Go on?}}
  - {id: after, shell: echo hello}
"""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a-key")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "orders-service")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@asynccontextmanager
async def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    async with open_api(tmp_path, monkeypatch) as api:
        yield api


async def named(collector: Collector, name: str, count: int = 1) -> Sequence[Seen]:
    return await asyncio.to_thread(collector.named, name, count)


async def sent(api: Api, *, sampled: bool) -> str:
    """The id of the run that a request to the webhook starts."""
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-{'01' if sampled else '00'}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://stepbox") as anybody:
        answer = await anybody.post(
            "/hooks/orders?token=in-the-query", content=json.dumps({"word": HUSH}), headers=headers
        )
    assert answer.status_code == 202, answer.text
    run: str = answer.json()["run"]
    return run


async def test_a_request_its_run_the_steps_and_the_calls_are_spans_of_one_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    async with service(tmp_path, monkeypatch) as api:
        await api.put(QUICK)
        await api.put(ORDERS)
        await sent(api, sampled=False)
        run = await sent(api, sampled=True)
        await api.until(f"/runs/{run}", lambda found: found["ended_at"] is not None)
        (ran,) = await named(collector, "run orders")
        (child,) = await named(collector, "run quick")
        (asked,) = await named(collector, "POST /hooks/{hook}")
    at = {span.name: span for span in collector.spans}
    assert {span.trace for span in (ran, child, asked)} == {TRACE}
    assert (asked.parent, asked.kind) == (CALLER, "server")
    assert asked.attributes["http.request.method"] == "POST"
    assert asked.attributes["http.route"] == "/hooks/{hook}"
    assert asked.attributes["http.response.status_code"] == 202
    assert (ran.parent, ran.attributes["stepbox.run.id"]) == (asked.id, run)
    assert (ran.attributes["stepbox.trigger.kind"], ran.attributes["stepbox.run.status"]) == ("webhook", "succeeded")
    assert {at[name].parent for name in ("step note", "step say", "step other")} == {ran.id}
    assert (at["tool workspace.create_task"].parent, child.parent) == (at["step note"].id, at["step other"].id)
    assert at["step one"].parent == child.id
    assert (at["step say"].failed, at["step say"].attributes["error.type"]) == (True, "exit_status")
    assert not ran.failed
    assert ran.began <= at["step note"].began <= at["step note"].ended <= ran.ended
    assert ran.resource["service.name"] == "orders-service"
    assert collector.headers[0]["x-key"] == "a-key"
    assert not any(text in body for body in collector.raw for text in (HUSH.encode(), b"in-the-query", b"hello"))


async def test_a_run_that_waited_is_one_span_with_all_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector: Collector
) -> None:
    async with service(tmp_path, monkeypatch) as api:
        run = (await api.call("POST", "/runs", 202, json={"flow": {"text": ASKS}}))["run_id"]
        await api.until(f"/runs/{run}", lambda found: found["status"] == "waiting")
        await named(collector, "step ask")
    # Another engine, on the same database.
    async with service(tmp_path, monkeypatch) as api:
        await api.serving.service().decide(run, "approved", pairs={}, comment=None)
        await api.until(f"/runs/{run}", lambda found: found["status"] == "succeeded")
        (ran,) = await named(collector, "run asks")
    steps = [span for span in collector.spans if span.name.startswith("step ")]
    assert [span.name for span in steps] == ["step before", "step ask", "step ask", "step after"]
    assert {(span.trace, span.parent) for span in steps} == {(ran.trace, ran.id)}
    assert len({span.id for span in steps}) == 4
    assert [span.attributes["stepbox.step.status"] for span in steps] == [
        "succeeded",
        "waiting",
        "succeeded",
        "succeeded",
    ]
    (asked,) = [span for span in collector.spans if span.name == "POST /api/v1/runs"]
    assert (ran.trace, ran.parent, asked.parent) == (asked.trace, asked.id, "")


async def test_a_collector_that_hangs_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    with collecting(hangs=True) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        # Longer than the test may take: what waited for an answer would be seen.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
        async with asyncio.timeout(120), service(tmp_path, monkeypatch) as api:
            for _ in range(10):
                found = await api.call("POST", "/runs?wait=30", json={"flow": {"text": QUICK}})
                assert found["status"] == "succeeded"
            assert await asyncio.to_thread(collector.asked.wait, 30)
        assert collector.spans == []


IMPORTS = """
import asyncio, sys
from engine.bootstrap import open_serving

async def main():
    async with open_serving() as serving:
        await serving.readiness()

asyncio.run(main())
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""


@pytest.mark.parametrize(
    ("variables", "imported"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "a"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
    ],
)
def test_opentelemetry_is_imported_only_where_there_is_an_endpoint(
    tmp_path: Path, variables: dict[str, str], *, imported: bool
) -> None:
    environment = {**os.environ, "STEPBOX_HOME": str(tmp_path), "STEPBOX_RUNNER": "nsjail", **variables}
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert (done.stdout.strip() != "[]") is imported, done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "grpc://collector"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ],
)
def test_what_stepbox_cant_send_to_is_said(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettingsError, match=f"^{name}='{value}': "):
        Settings()
