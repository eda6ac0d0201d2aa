"""A service that is killed again and again under a mixed load, and the audit of what it left."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any, Final, Self

import httpx

from engine.deliveries import DeliveryStatus
from engine.past import is_lost, is_parked
from engine.records import Run, RunSummary, StepRun
from engine.store import Store
from flows.values import Json, RunStatus, StepStatus
from steps.tools.content import TaskQuery
from tests.acceptance.services import DEADLINE, free_port
from tests.integration.crash_flows import FLOWS, STEPS, is_approved, titles_of_mixed, titles_of_parks
from tests.integration.test_killed import Counting

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-crash-test-0123456789"


class Services:
    """Starts services, kills them, and knows when nothing of one is left."""

    def __init__(
        self, directory: Path, environment: dict[str, str], *, constants: Mapping[str, object] | None = None
    ) -> None:
        """``constants`` are those that a service has otherwise, by ``module:NAME``: what takes too long for a test."""
        (directory / "tmp").mkdir(parents=True)
        self.port = free_port()
        self.log = directory / "serve.log"
        self.pids: list[int] = []
        self._is_alive = False
        self._constants = dict(constants or {})
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
        what = {
            "arguments": arguments,
            "environment": self._environment,
            "log": str(self.log),
            "constants": self._constants,
        }
        self.pids.append(int(self._ask({"start": what})))
        self._is_alive = True

    def end(self, number: signal.Signals) -> int:
        """End the service by a signal; its exit status, once no process of it is left."""
        os.kill(self.pids[-1], number)
        status = int(self._ask({"end": self.pids[-1]}))
        self._is_alive = False
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._is_alive:
            self.end(signal.SIGKILL)
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


class Load:
    """Starts runs without a pause, by every door, each until the service has acknowledged it.

    Of those that wait, it answers the question and sends the event, in the same way.
    """

    PAUSE: Final = 0.5
    """Seconds between two starts."""
    AT_ONCE: Final = 20
    """Starts that wait to be acknowledged at once, so that a busy machine is not asked for more and more."""

    def __init__(self, *ports: int, patience: float = 3 * DEADLINE) -> None:
        """Of services on several ports each is asked in its turn.

        ``patience`` is in seconds: how long a request may take, whatever happens to the services meanwhile.
        """
        self._ports = cycle(ports)
        self._patience = patience
        self.refused: Counter[str] = Counter()
        """How often requests were answered with 503, by the code of the problem."""
        self.acknowledged: set[int] = set()
        """The numbers of the runs of `mixed` that were asked for."""
        self.parked: set[int] = set()
        """Those of the runs of `parks` that were asked for, answered, and sent their event."""
        self._client = httpx.AsyncClient(
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
        for name, text in FLOWS.items():
            await self.call("PUT", f"/api/v1/flows/{name}", json={"text": text.replace("SERVER", f"http://{server}/")})

    async def call(
        self, method: str, path: str, *, refused: int | None = None, of: Services | None = None, **given: Any
    ) -> httpx.Response:
        """The answer of a service, that one or the next, however often it is killed meanwhile.

        ``refused`` is a status that is an answer, too.
        """
        async with asyncio.timeout(self._patience):
            while True:
                try:
                    port = next(self._ports) if of is None else of.port
                    answer = await self._client.request(method, f"http://127.0.0.1:{port}{path}", **given)
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
                    continue
                if answer.status_code < 500:
                    assert answer.is_success or answer.status_code == refused, answer.text
                    return answer
                assert answer.status_code == 503, answer.text
                assert int(answer.headers["Retry-After"]) > 0
                if path != "/readyz":
                    self.refused[answer.json()["code"]] += 1
                await asyncio.sleep(0.05)

    async def run(self) -> None:
        """Start runs until :meth:`stop`, then wait for what is not acknowledged yet."""
        number = 0
        while not self._stopped.is_set():
            for start in (self._mixed, self._parks) if number % 3 == 0 else (self._mixed,):
                self._sending.add(asyncio.create_task(start(number)))
            number += 1
            await asyncio.sleep(self.PAUSE)
            while len(waiting := [task for task in self._sending if not task.done()]) >= self.AT_ONCE:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.gather(*self._sending)

    def stop(self) -> None:
        self._stopped.set()

    async def _mixed(self, number: int) -> None:
        await self._start("mixed", number)
        self.acknowledged.add(number)

    async def _parks(self, number: int) -> None:
        run = await self._start("parks", number)
        while run is None:
            # What had been acknowledged is answered with the run, once it has started that.
            await asyncio.sleep(0.1)
            run = await self._start("parks", number)
        await asyncio.gather(self._pay(number), self._decide(run, "approve" if is_approved(number) else "reject"))
        self.parked.add(number)

    async def _start(self, flow: str, number: int) -> str | None:
        """The run, once it is acknowledged; None where what starts it is."""
        if number % 2:
            given: dict[str, Any] = {"json": {"n": number}, "headers": {"X-Message-Id": str(number)}}
            answer = (await self.call("POST", f"/hooks/{flow}", **given)).json()["run"]
        else:
            given = {"json": {"inputs": {"n": number}}, "headers": {"Idempotency-Key": f"{flow}-{number}"}}
            answer = (await self.call("POST", f"/api/v1/flows/{flow}/runs", **given)).json()["run_id"]
        return None if answer is None else str(answer)

    async def _pay(self, number: int) -> None:
        event = {"specversion": "1.0", "id": str(number), "source": "/shop", "type": "shop.paid", "data": {"n": number}}
        headers = {"Content-Type": "application/cloudevents+json"}
        await self.call("POST", "/api/v1/events", json=event, headers=headers)

    async def _decide(self, run: str, verb: str) -> None:
        """Answer the question of a run, once it asks: where the answer to a first try was lost, it stands as given."""
        while not (asked := await self._asked(run)):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.1)
        await self.call("POST", f"/api/v1/approvals/{asked[0]['id']}/{verb}", json={}, refused=409)
        (decided,) = await self._asked(run)
        assert decided["decision"] == {"approve": "approved", "reject": "rejected"}[verb]

    async def _asked(self, run: str) -> list[dict[str, Json]]:
        found = await self.call("GET", "/api/v1/approvals", params={"run": run, "decided": True})
        items: list[dict[str, Json]] = found.json()["items"]
        return items

    async def idle(self, store: Store) -> None:
        """Wait until every event has started its run and every run has ended, and let no schedule come due any more."""
        async with asyncio.timeout(3 * DEADLINE):
            await _delivered(store)
            # Not before: what is pending of a flow that is disabled is passed over.
            await self.call("POST", "/api/v1/flows/ticks/disable")
            await _delivered(store)
            while any(run.ended_at is None for run in await summaries(store)):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)


async def _delivered(store: Store) -> None:
    while (await store.events.counts()).get(DeliveryStatus.PENDING, 0):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.05)


@asynccontextmanager
async def loaded(database_url: str, server: str, *services: Services) -> AsyncIterator[Load]:
    """Services of one database under load, which are idle and have ended after the block; audited then.

    The last one takes what the end of the load needs.
    """
    files = services[-1].log.parent / "files"
    async with Load(*(each.port for each in services)) as load:
        for each in services:
            each.start()
        await load.apply(server)
        running = asyncio.create_task(load.run())
        yield load
        load.stop()
        await running
        async with await Store.open(database_url, files=files) as store:
            await load.idle(store)
            for each in services:
                assert await asyncio.to_thread(each.end, signal.SIGTERM) == 0
            await audit(store, load)
    assert Counting.done == dict.fromkeys(load.acknowledged, 1)


async def audit(store: Store, load: Load) -> None:
    """Fail where something was lost, done twice, or left."""
    runs = [await store.runs.get(run.id) for run in await summaries(store)]
    for run in runs:
        assert run.status is (RunStatus.SUCCEEDED if ends_well(run) else RunStatus.FAILED), run
        assert run.owner is None, run
        assert run.lease_until is None, run
        check_attempts(run, await store.steps.list(run.id))
    for flow, numbers in (("mixed", load.acknowledged), ("inner", load.acknowledged), ("parks", load.parked)):
        assert Counter(run.inputs["n"] for run in runs if run.flow == flow) == dict.fromkeys(numbers, 1)
    ticks = sorted(datetime.fromisoformat(run.inputs["at"]) for run in runs if run.flow == "ticks")
    assert {later - earlier for earlier, later in pairwise(ticks)} == {timedelta(seconds=1)}
    wanted = [title for n in load.acknowledged for title in titles_of_mixed(n)]
    wanted += [title for n in load.parked for title in titles_of_parks(n)]
    wanted += [f"tick {at.isoformat()}" for at in ticks]
    tasks = await store.content.search_tasks("default", TaskQuery(statuses=[], limit=100_000, offset=0))
    assert Counter(task.title for task in tasks) == dict.fromkeys(wanted, 1)
    asked = await store.approvals.list()
    assert len(asked) == min(len(load.parked), 1000)
    assert {one.decision for one in asked} <= {"approved", "rejected"}
    for status in set(DeliveryStatus) - {DeliveryStatus.STARTED}:
        # A tick may have come due as its flow was disabled.
        passed_over = (await store.events.deliveries(status=status)).items
        assert [one for one in passed_over if (one.flow, one.status) != ("ticks", DeliveryStatus.SKIPPED)] == []


def ends_well(run: Run) -> bool:
    return run.flow != "parks" or is_approved(run.inputs["n"])


async def summaries(store: Store) -> list[RunSummary]:
    """All runs, the newest first."""
    found: list[RunSummary] = []
    cursor: str | None = None
    while True:
        page = await store.runs.list(limit=200, cursor=cursor)
        found += page.items
        cursor = page.next
        if cursor is None:
            return found


def check_attempts(run: Run, attempts: tuple[StepRun, ...]) -> None:
    """Each step, and each item of one, has ended once, at its last attempt; those before it were cut short, or waited.

    It has succeeded, but for the question whose answer is no, and what needs it.
    """
    of_step: dict[str, list[StepRun]] = {}
    for attempt in attempts:
        of_step.setdefault(attempt.label, []).append(attempt)
    assert {attempt.step_id for attempt in attempts} >= STEPS[run.flow], run
    other = {} if ends_well(run) else {"ask": StepStatus.FAILED, "last": StepStatus.SKIPPED}
    for label, tries in of_step.items():
        tries.sort(key=lambda attempt: attempt.attempt)
        assert tries[-1].status is other.get(label, StepStatus.SUCCEEDED), (run, label, tries)
        for one in tries[:-1]:
            assert is_lost(one) or is_parked(one), (run, label, one)
