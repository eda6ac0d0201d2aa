"""A service that is killed again and again under a mixed load, and the audit of what it left."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import httpx

from engine.deliveries import DeliveryStatus
from engine.past import is_lost
from engine.records import Run, StepRun
from engine.store import Store
from flows.values import Json, RunStatus, StepStatus
from steps.tools.content import TaskQuery
from tests.acceptance.services import DEADLINE, free_port

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-crash-test-0123456789"


class Services:
    """Starts services, kills them, and knows when nothing of one is left."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        (directory / "tmp").mkdir()
        self.port = free_port()
        self.log = directory / "serve.log"
        self.pids: list[int] = []
        self._environment = {"STEPBOX_RUNNER": "nsjail", "STEPBOX_ADMIN_TOKEN": TOKEN, **environment}
        own = {name: value for name, value in os.environ.items() if not name.startswith(("STEPBOX_", "PREFECT_"))}
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("mortal_services.py")), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**own, "PYTHONPATH": str(ROOT), "TMPDIR": str(directory / "tmp")},
        )
        self._answer()

    def start(self) -> None:
        arguments = ["serve", "--port", str(self.port)]
        what = {"arguments": arguments, "environment": self._environment, "log": str(self.log)}
        self.pids.append(int(self._ask({"start": what})))

    def end(self, number: signal.Signals) -> int:
        """End the service by a signal; its exit status, once no process of it is left."""
        os.kill(self.pids[-1], number)
        return int(self._ask({"end": self.pids[-1]}))

    def close(self) -> None:
        with self._server:
            pass

    def _ask(self, request: dict[str, Any]) -> Json:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _answer(self) -> Json:
        assert self._server.stdout is not None
        answer = self._server.stdout.readline()
        assert answer, "the process that forks services has ended"
        return json.loads(answer)


FLOW = """\
flow: mixed
inputs: {n: {type: integer}}
triggers:
  - id: hook
    webhook: {path: mixed, verify: none, id: X-Message-Id}
    with: {n: "${{ event.body.n }}"}
steps:
  - {id: begin, tool: workspace.create_task, with: {title: "begin ${{ inputs.n }}", statusId: open}}
  - id: code
    tools: [workspace.create_task]
    with: {n: "${{ inputs.n }}"}
    python: |
      for number in range(3):
          tools.create_task(title=f"code {inputs['n']} {number}", statusId="open")
      return {"n": inputs["n"]}
  - id: threads
    tools: [workspace.create_task]
    with: {n: "${{ inputs.n }}"}
    javascript: |
      const write = item => tools.create_task({title: `threads ${inputs.n} ${item}`, statusId: "open"});
      await Promise.all(["a", "b", "c"].map(write));
    needs: [begin]
  - id: each
    tool: workspace.create_task
    for_each: {in: [a, b, c], concurrency: 2}
    with: {title: "each ${{ inputs.n }} ${{ item }}", statusId: open}
    needs: [code]
  - id: post
    tool: http.request
    with: {url: "SERVER", method: POST, json: {n: "${{ inputs.n }}"}, idempotent: true}
    needs: [begin]
  - {id: inner, flow: inner, with: {n: "${{ inputs.n }}"}, needs: [code, threads, each, post]}
output: ${{ steps.code.result.n }}
finally:
  - {id: tidy, tool: workspace.create_task, with: {title: "tidy ${{ inputs.n }}", statusId: open}}
"""
INNER = """\
flow: inner
inputs: {n: {type: integer}}
steps:
  - {id: inner_begin, tool: workspace.create_task, with: {title: "inner ${{ inputs.n }}", statusId: open}}
  - {id: inner_end, tool: workspace.create_task, with: {title: "inner end ${{ inputs.n }}", statusId: open}}
"""
TICKS = """\
flow: ticks
inputs: {at: {type: string}}
triggers:
  - id: second
    schedule: {interval: 1s, catch_up: all}
    with: {at: "${{ event.scheduled_at }}"}
steps:
  - {id: tick, tool: workspace.create_task, with: {title: "tick ${{ inputs.at }}", statusId: open}}
"""


def titles(n: int) -> Iterator[str]:
    """The tasks that a run of the flow makes, each once."""
    yield from (f"begin {n}", f"inner {n}", f"inner end {n}", f"tidy {n}")
    yield from (f"code {n} {number}" for number in range(3))
    yield from (f"{step} {n} {item}" for step in ("threads", "each") for item in "abc")


class Load:
    """Starts runs without a pause, by every door, each until the service has acknowledged it."""

    PAUSE: Final = 0.5
    """Seconds between two starts."""

    def __init__(self, port: int) -> None:
        self.acknowledged: set[int] = set()
        """The numbers of the runs that were asked for."""
        self._client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=DEADLINE,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self._sending: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._client.aclose()

    async def apply(self, server: str) -> None:
        """Put the flows into service; ``server`` is where the HTTP requests go."""
        for name, text in (("inner", INNER), ("mixed", FLOW.replace("SERVER", f"http://{server}/")), ("ticks", TICKS)):
            await self.call("PUT", f"/api/v1/flows/{name}", json={"text": text})

    async def call(self, method: str, path: str, **given: Any) -> httpx.Response:
        """The answer of the service, however often it is killed meanwhile."""
        async with asyncio.timeout(3 * DEADLINE):
            while True:
                try:
                    answer = await self._client.request(method, path, **given)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code < 500:
                    assert answer.is_success, answer.text
                    return answer
                assert answer.status_code == 503, answer.text

    async def run(self) -> None:
        """Start runs until :meth:`stop`, then wait for what is not acknowledged yet."""
        number = 0
        while not self._stopped.is_set():
            task = asyncio.create_task(self._start(number))
            self._sending.add(task)
            number += 1
            await asyncio.sleep(self.PAUSE)
        await asyncio.gather(*self._sending)

    def stop(self) -> None:
        self._stopped.set()

    async def _start(self, number: int) -> None:
        if number % 2:
            given = {"json": {"n": number}, "headers": {"X-Message-Id": str(number)}}
            await self.call("POST", "/hooks/mixed", **given)
        else:
            given = {"json": {"inputs": {"n": number}}, "headers": {"Idempotency-Key": str(number)}}
            await self.call("POST", "/api/v1/flows/mixed/runs", **given)
        self.acknowledged.add(number)

    async def idle(self, store: Store) -> None:
        """Wait until every event has started its run and every run has ended, and let no schedule come due any more."""
        async with asyncio.timeout(3 * DEADLINE):
            await _delivered(store)
            # Not before: what is pending of a flow that is disabled is passed over.
            await self.call("POST", "/api/v1/flows/ticks/disable")
            await _delivered(store)
            for status in (RunStatus.QUEUED, RunStatus.RUNNING):
                while (await self.call("GET", "/api/v1/runs", params={"status": status.value})).json()["items"]:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.2)


async def _delivered(store: Store) -> None:
    while (await store.events.counts()).get(DeliveryStatus.PENDING, 0):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)


async def audit(store: Store, acknowledged: Collection[int]) -> None:
    """Fail where something was lost, done twice, or left."""
    runs = await all_runs(store)
    for run in runs:
        assert run.status is RunStatus.SUCCEEDED, run
        assert run.owner is None, run
        check_attempts(run, await store.steps.list(run.id))
    for flow in ("mixed", "inner"):
        assert Counter(run.inputs["n"] for run in runs if run.flow == flow) == dict.fromkeys(acknowledged, 1)
    ticks = sorted(datetime.fromisoformat(run.inputs["at"]) for run in runs if run.flow == "ticks")
    assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(seconds=1)}
    wanted = {title: 1 for n in acknowledged for title in titles(n)}
    tasks = await store.content.search_tasks("default", TaskQuery(statuses=[], limit=100_000, offset=0))
    made = Counter(task.title for task in tasks)
    assert made == {**wanted, **{f"tick {at.isoformat()}": 1 for at in ticks}}


async def all_runs(store: Store) -> list[Run]:
    found: list[Run] = []
    cursor: str | None = None
    while True:
        page = await store.runs.list(limit=200, cursor=cursor)
        found += [await store.runs.get(run.id) for run in page.items]
        cursor = page.next
        if cursor is None:
            return found


def check_attempts(run: Run, attempts: tuple[StepRun, ...]) -> None:
    """Each step, and each item of one, has succeeded once, at its last attempt; those before it were cut short."""
    of_step: dict[str, list[StepRun]] = {}
    for attempt in attempts:
        of_step.setdefault(attempt.label, []).append(attempt)
    assert {attempt.step_id for attempt in attempts} >= STEPS[run.flow], run
    for label, tries in of_step.items():
        tries.sort(key=lambda attempt: attempt.attempt)
        assert tries[-1].status is StepStatus.SUCCEEDED, (run, label, tries)
        for one in tries[:-1]:
            assert is_lost(one), (run, label, one)


STEPS = {
    "mixed": {"begin", "code", "threads", "each", "post", "inner", "tidy"},
    "inner": {"inner_begin", "inner_end"},
    "ticks": {"tick"},
}
"""The steps of each flow, all of which run."""
