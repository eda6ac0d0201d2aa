"""The policy of the workspace against runs, in real sandboxes: when planned, at each attempt, in tools and on the way."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
import pytest_asyncio

from engine.records import LogLine
from engine.report import RunReport
from engine.store import Store
from engine.workspace_policy import parse
from flows.contracts import StepExecutor
from flows.errors import RefusedError
from flows.model import StepConfig
from flows.values import Json, RunStatus
from steps.ceilings import Ceilings, Rules
from steps.code import JavaScriptStep, PythonStep, ShellStep
from steps.image import ImageStep
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.image_executor import ImageExecutor
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from tests.unit.engine.conftest import Engine, open_engine

pytestmark = pytest.mark.asyncio(loop_scope="module")


class _LateRules:
    """The rules of the engine that is made after the executors."""

    def __init__(self) -> None:
        self.rules: Rules | None = None

    async def ceilings(self, workspace: str) -> Ceilings:
        assert self.rules is not None
        return await self.rules.ceilings(workspace)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Engine]:
    sandboxes, rules = Sandboxes(NsjailRunner()), _LateRules()
    code = CodeExecutor(sandboxes, rules=rules)
    images = ImageExecutor(sandboxes, None, rules=rules)
    more: Mapping[type[StepConfig], StepExecutor] = {
        PythonStep: code,
        JavaScriptStep: code,
        ShellStep: code,
        ImageStep: images,
    }
    async with open_engine(tmp_path_factory.mktemp("engine"), more) as make:
        made = make()
        rules.rules = made.runs.policies
        yield made
    await sandboxes.close()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def no_policy_left(engine: Engine) -> AsyncIterator[None]:
    yield
    await set_policy(engine, {})


async def set_policy(engine: Engine, document: dict[str, Json]) -> None:
    parse(document)
    store = engine.store
    async with store.transaction():
        before = await store.policies.current("default")
        version = await store.policies.add("default", before.number + 1, document, "ann")
    engine.runs.policies.changed(version)


def error_of(report: RunReport, step: str = "a") -> tuple[str, str]:
    error = report.steps[step].final.error
    assert error is not None
    return error.code, error.message


ASKS = [
    ({"limits": {"timeout": "10s"}}, "shell: 'true'\n    limits: {timeout: 11s}", "limits.timeout is 11s"),
    ({"limits": {"memory": "100MB"}}, "shell: 'true'\n    limits: {memory: 101MB}", "limits.memory is 101MB"),
    ({"limits": {"cpu": 1}}, "shell: 'true'\n    limits: {cpu: 2}", "limits.cpu is 2,"),
    ({"limits": {"pids": 10}}, "shell: 'true'\n    limits: {pids: 11}", "limits.pids is 11"),
    ({"limits": {"disk": "10MB"}}, "shell: 'true'\n    limits: {disk: 11MB}", "limits.disk is 11MB"),
    ({"limits": {"output": "10kB"}}, "shell: 'true'\n    limits: {output: 11kB}", "limits.output is 11kB"),
    ({"limits": {"code": 10}}, "shell: 'echo 1234567'", "the code is 12B"),
    ({"limits": {"artifacts": "1MB"}}, "shell: 'true'\n    limits: {artifacts: 2MB}", "limits.artifacts is 2MB"),
    ({"limits": {"requests": 1}}, "shell: 'true'\n    limits: {requests: 2}", "limits.requests is 2"),
    ({"limits": {"transfer": "1MB"}}, "shell: 'true'\n    limits: {transfer: 2MB}", "limits.transfer is 2MB"),
    ({"limits": {"tool_calls": 0}}, "shell: 'true'\n    limits: {tool_calls: 1}", "limits.tool_calls is 1"),
    ({"networks": ["none"]}, "shell: 'true'\n    network: {allow: [a.example]}", "the network is `allow`"),
    ({"networks": ["allow"]}, "shell: 'true'\n    network: full", "the network is `full`"),
    ({"denied_domains": ["a.example"]}, "shell: 'true'\n    network: {allow: [x.a.example]}", "denies x.a.example"),
    ({"images": ["python:3.12"]}, "image: python:3.13", "the image python:3.13 is not among those"),
    ({"min_isolation": "container"}, "shell: 'true'", "isolation level 'jail'"),
]


@pytest.mark.parametrize(("policy", "step", "says"), ASKS)
async def test_flow_beyond_a_ceiling_is_refused_before_anything_runs(
    engine: Engine, policy: dict[str, Json], step: str, says: str
) -> None:
    await set_policy(engine, policy)
    before = len((await engine.store.runs.list(limit=100)).items)
    with pytest.raises(RefusedError) as caught:
        await engine.run(f"flow: f\nsteps:\n  - id: first\n    shell: 'true'\n  - id: a\n    {step}\n")
    assert (caught.value.code, caught.value.exit_status) == ("refused_by_policy", 3)
    assert says in caught.value.message
    assert "stepbox policy set" in (caught.value.fix or "")
    assert len((await engine.store.runs.list(limit=100)).items) == before


async def test_subflow_beyond_a_ceiling_is_refused_with_the_flow_that_starts_it(engine: Engine) -> None:
    await set_policy(engine, {"limits": {"timeout": "1s"}})
    inner = "flow: inner\nsteps: [{id: a, shell: 'true', limits: {timeout: 2s}}]"
    with pytest.raises(RefusedError, match=r"limits\.timeout is 2s"):
        await engine.run("flow: outer\nsteps: [{id: s, flow: inner}]", inner)


@pytest.mark.parametrize(
    ("limits", "step", "status", "code"),
    [
        ({"timeout": "1s"}, "shell: sleep 30", "timed_out", "timed_out"),
        ({"memory": "30MB"}, "python: return len(bytearray(100_000_000))", "out_of_memory", "out_of_memory"),
        ({"disk": "1MB"}, "shell: head -c 5000000 /dev/zero > x", "failed", "disk_full"),
        ({"result": 100}, "python: return 'x' * 200", "limit_exceeded", "result_too_large"),
        ({"tool_calls": 0}, "python: return tools.search_tasks()\n    tools: [workspace.search_tasks]", None, None),
        ({"artifacts": 10}, "shell: head -c 100 /dev/zero > $ARTIFACTS/x", "limit_exceeded", "artifacts_too_large"),
    ],
)
async def test_step_that_declares_no_limit_gets_no_more_than_the_ceiling(
    engine: Engine, limits: dict[str, Json], step: str, status: str | None, code: str | None
) -> None:
    allowed = await engine.run(f"flow: f\nsteps:\n  - id: a\n    {step.replace('sleep 30', 'sleep 2')}\n")
    assert allowed.run.status is RunStatus.SUCCEEDED, error_of(allowed)
    await set_policy(engine, {"limits": limits})
    report = await engine.run(f"flow: f\nsteps:\n  - id: a\n    {step}\n")
    assert report.run.status is RunStatus.FAILED
    final = report.steps["a"].final
    assert final.status == (status or final.status)
    assert error_of(report)[0] == (code or error_of(report)[0]), error_of(report)


async def test_output_beyond_the_ceiling_is_dropped(engine: Engine) -> None:
    await set_policy(engine, {"limits": {"output": 1000}})
    report = await engine.run("flow: f\nsteps:\n  - id: a\n    shell: for i in $(seq 1000); do echo 0123456789; done\n")
    lines = (await engine.store.logs.list(report.run.id, limit=2000)).items
    assert sum(len(line.line) for line in lines) < 2000


async def test_policy_that_is_set_meanwhile_holds_from_the_next_attempt(engine: Engine) -> None:
    """The first attempt goes on under the policy that it began under; the next step is refused."""
    text = """
flow: f
steps:
  - {id: a, shell: "echo begun; sleep 2"}
  - {id: b, shell: "true", limits: {timeout: 20s}}
"""
    running = asyncio.ensure_future(engine.run(text))
    await until_printed(engine.store, "begun")
    await set_policy(engine, {"limits": {"timeout": "1s"}})
    number = engine.runs.policies.known("default").number
    report = await running
    assert report.steps["a"].final.status == "succeeded"
    assert report.steps["a"].final.policy == number - 1
    assert report.steps["b"].final.policy == number
    assert error_of(report, "b")[0] == "refused_by_policy"


async def until_printed(store: Store, text: str) -> None:
    """Wait until the code of the newest run has printed a line."""
    async with asyncio.timeout(60):
        while not any(line.line == text for line in await _lines(store)):  # noqa: ASYNC110 - another's doing
            await asyncio.sleep(0.02)


async def test_tool_that_the_policy_asks_for_waits_for_a_person(engine: Engine) -> None:
    await set_policy(engine, {"approve_tools": ["workspace.search_*"]})
    from_step = "flow: f\nsteps: [{id: a, tool: workspace.search_tasks}]"
    from_code = "flow: f\nsteps: [{id: a, python: return tools.search_tasks(), tools: [workspace.search_tasks]}]"
    for text in (from_step, from_code):
        report = await engine.run(text)
        assert report.run.status is RunStatus.WAITING
        assert "call workspace.search_tasks" in error_of(report)[1]


async def test_denied_domain_is_denied_to_tools_by_every_name_below_it(engine: Engine) -> None:
    await set_policy(engine, {"denied_domains": ["example.com"]})
    for host in ("example.com", "API.Example.com.", "a.b.example.com:8443"):
        report = await engine.run(f"flow: f\nsteps: [{{id: a, tool: http.request, with: {{url: 'https://{host}/'}}}}]")
        code, message = error_of(report)
        assert code == "egress_denied"
        assert "the policy of the workspace denies" in message


async def test_internal_destination_of_the_policy_is_exactly_that(engine: Engine) -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    text = f"flow: f\nsteps: [{{id: a, tool: http.request, with: {{url: 'http://127.0.0.1:{port}/'}}}}]"
    async with server:
        refused = await engine.run(text)
        assert error_of(refused)[0] == "egress_denied"
        await set_policy(engine, {"internal": [f"127.0.0.1:{port}"]})
        allowed = await engine.run(text)
        assert allowed.run.status is RunStatus.SUCCEEDED
        await set_policy(engine, {"internal": [f"127.0.0.1:{port + 1}"]})
        assert error_of(await engine.run(text))[0] == "egress_denied"


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    await writer.drain()
    writer.close()


async def test_domain_denied_while_code_runs_is_denied_to_its_next_request(engine: Engine, tmp_path: Path) -> None:
    """Before: it isn't public, so the name is looked at by policy first and by address after."""
    await set_policy(engine, {"internal": ["localhost:1"]})
    text = """
flow: f
steps:
  - id: a
    network: {allow: ["localhost:1"]}
    python: |
      import httpx, time
      def why():
          try:
              return httpx.get("http://localhost:1").text
          except Exception as problem:
              return str(problem)
      first, end = why(), time.monotonic() + 20
      print("asked")
      while "denied by the policy" not in (last := why()) and time.monotonic() < end:
          time.sleep(0.5)
      return [first, last]
"""
    running = asyncio.ensure_future(engine.run(text))
    await until_printed(engine.store, "asked")
    await set_policy(engine, {"internal": ["localhost:1"], "denied_domains": ["localhost"]})
    report = await running
    first, last = report.steps["a"].final.result
    assert "denied by the policy" not in first
    assert "denied by the policy" in last


async def _lines(store: Store) -> Sequence[LogLine]:
    """The lines of the newest run."""
    runs = (await store.runs.list(limit=1)).items
    return (await store.logs.list(runs[0].id)).items if runs else ()
