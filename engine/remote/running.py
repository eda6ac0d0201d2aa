"""Runs: started, followed, cancelled, continued; and code that is executed by itself."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from ulid import ULID

from engine.cancellation import Interruption
from engine.progress import LineLogged, NoObserver, Observer, RunStarted
from engine.records import Run, RunSummary
from engine.remote import records
from engine.remote.client import PATIENT
from engine.remote.flows import FlowCalls
from engine.remote.following import events as events_of
from engine.remote.following import follow
from engine.remote.run_records import RunRecordCalls
from engine.report import RunReport
from engine.service import ImageSnippet, Resumption, RunEvent, Snippet, StartedRun, Target
from flows.contracts import StepResult
from flows.definition import Definition
from flows.errors import StepboxError
from flows.values import Json


class RunCalls(FlowCalls, RunRecordCalls):
    """Runs: started, followed, cancelled, continued; and code that is executed by itself."""

    async def run(
        self, definition: Definition, inputs: Mapping[str, Json], observer: Observer, *, directory: Path
    ) -> RunReport:
        del directory  # the service sees nothing of this machine but the flow and its files
        flow = {"text": definition.text, "files": dict(definition.files)}
        return await self._run("/runs", {"flow": flow, "inputs": dict(inputs)}, observer)

    async def run_known(self, flow: str, inputs: Mapping[str, Json], observer: Observer) -> RunReport:
        return await self._run(f"/flows/{quote(flow)}/runs", {"inputs": dict(inputs)}, observer)

    async def _run(self, path: str, body: Json, observer: Observer) -> RunReport:
        """Start a run and see it to its end."""
        started = await self._client.call("POST", path, body=body, headers={"Idempotency-Key": str(ULID())})
        return await self._see_to_its_end(records.run(started), observer, None)

    async def _see_to_its_end(self, run: Run, observer: Observer, after: str | None) -> RunReport:
        """See a run to where it has ended, or waits; where this is cancelled, so is the run."""
        observer.notice(RunStarted(run=run))
        with Interruption() as interruption:
            try:
                await follow(self._client, run.id, observer, after=after)
            except asyncio.CancelledError as problem:
                interruption.came_with(problem)
                await self.cancel(run.id)
                await follow(self._client, run.id, observer)
            return await self.run_report(run.id)

    async def start(self, target: Target, inputs: Mapping[str, Json], *, key: str | None = None) -> StartedRun:
        body: dict[str, Json] = {"inputs": dict(inputs)}
        path = "/runs"
        if isinstance(target, str):
            path = f"/flows/{quote(target)}/runs"
        else:
            definition = self.load(target)
            body["flow"] = {"text": definition.text, "files": dict(definition.files)}
        return await self._start(path, body, key)

    async def _start(self, path: str, body: Json, key: str | None) -> StartedRun:
        answer = await self._client.send("POST", path, body=body, headers={"Idempotency-Key": key or str(ULID())})
        return StartedRun(run=records.run(answer.json()), repeated="Idempotency-Replayed" in answer.headers)

    async def retry(self, run: str, *, step: str | None, observer: Observer) -> RunReport:
        return await self._run(f"/runs/{quote(run)}/retry", {"from": step}, observer)

    async def start_retry(self, run: str, *, step: str | None, key: str | None = None) -> StartedRun:
        return await self._start(f"/runs/{quote(run)}/retry", {"from": step}, key)

    async def wait(self, run: str, seconds: float) -> Run:
        try:
            async with asyncio.timeout(seconds):
                await follow(self._client, run, NoObserver(), until_parked=False)
        except TimeoutError:
            pass
        return (await self.run_report(run)).run

    async def follow(self, run: str, *, after: str | None = None) -> AsyncIterator[RunEvent]:
        return events_of(self._client, run, after)

    async def cancel(self, run: str) -> Run:
        cancelled = await self._client.call("POST", f"/runs/{quote(run)}/cancel")
        return records.run({**cancelled, "inputs": {}, "output": None})

    async def have_resumed(self, run: str) -> Resumption:
        answer = await self._client.call("POST", f"/runs/{quote(run, safe='')}/resume")
        return Resumption(run=records.run_summary(answer), position=answer["position"])

    async def resume(self, run: str, observer: Observer) -> RunReport:
        """See there. A run that this has decided on goes on, and may have ended, by itself."""
        found = (await self.run_report(run)).run
        position: str | None = None
        try:
            position = (await self.have_resumed(found.id)).position
        except StepboxError as problem:
            by_itself = {"run_driven", "not_resumable"} if found.id in self._decided else {"run_driven"}
            if problem.code not in by_itself:
                raise
        return await self._see_to_its_end(found, observer, position)

    async def abandoned(self) -> Sequence[RunSummary]:
        return [records.run_summary(one) for one in await self._client.pages("/abandoned-runs")]

    async def execute(self, snippet: Snippet | ImageSnippet, observer: Observer) -> StepResult:
        body: dict[str, Json] = {
            "inputs": dict(snippet.inputs),
            "network": snippet.network if isinstance(snippet.network, str) else list(snippet.network),
            "timeout": snippet.timeout,
            "memory": snippet.memory,
        }
        if isinstance(snippet, ImageSnippet):
            command = snippet.command
            path = "/execute/image"
            body |= {"image": snippet.image, "command": command if isinstance(command, str | None) else list(command)}
        else:
            path = "/execute"
            body |= {"language": snippet.language, "code": snippet.code, "tools": list(snippet.tools)}
        outcome = records.snippet_result(await self._client.call("POST", path, body=body, patience=PATIENT))
        # Its output comes with the outcome.
        for line in records.printed(outcome):
            observer.notice(LineLogged(line=line))
        return outcome
