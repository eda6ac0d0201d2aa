"""The service elsewhere, as commands see it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import TYPE_CHECKING
from urllib.parse import quote

from ulid import ULID

from engine import flow_changes
from engine.cancellation import Interruption
from engine.language import Language
from engine.progress import LineLogged, NoObserver, Observer, RunStarted
from engine.questions import Approval, Decision
from engine.records import (
    ArtifactRecord,
    EgressRecord,
    FlowDetail,
    FlowSummary,
    FlowVersion,
    LogLine,
    Page,
    Run,
    RunSummary,
    SecretSummary,
    StepRun,
    TokenRecord,
    ToolCall,
)
from engine.remote import records
from engine.remote.client import PATIENT, Client
from engine.remote.following import events as events_of
from engine.remote.following import follow
from engine.report import RunReport
from engine.service import (
    AppliedFlow,
    ApprovalDetail,
    FlowText,
    ImageSnippet,
    Precondition,
    Resumption,
    RunEvent,
    Snippet,
    StartedRun,
    Target,
)
from flows.contracts import Artifact, StepResult
from flows.definition import Definition
from flows.errors import InvalidCallError, StepboxError
from flows.values import Json, RunStatus

if TYPE_CHECKING:
    from engine.deliveries import Accepted, Delivery, DeliveryStatus
    from engine.diagnosis import Diagnosis, Tried
    from engine.links import SignedLink
    from engine.retention import Pruned
    from engine.tokens import IssuedToken
    from engine.upcoming import Upcoming
    from steps.sandbox.select import RunnerName


class OnlyThereError(InvalidCallError):
    """What is about the machine that it is done on."""

    code = "only_there"


class RemoteService:
    """Implements :class:`engine.service.Service` over HTTP. Flows are read, and checked first, on this machine."""

    def __init__(self, client: Client, language: Language) -> None:
        self._client = client
        self._language = language
        self._fetched: list[Path] = []
        self._decided: set[str] = set()

    def load(self, flow: FlowText) -> Definition:
        return flow_changes.load(flow, self._language)

    async def definition(self, flow: str) -> Definition:
        version = (await self.flow(flow)).version
        return self._language.load_stored(version.text, dict(version.files), path=f"{flow} v{version.number}")

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

    async def apply(
        self, flows: Sequence[FlowText], *, dry_run: bool = False, precondition: Precondition | None = None
    ) -> Sequence[AppliedFlow]:
        definitions = await flow_changes.gather(flows, self._language)
        if precondition is not None and not dry_run:
            return [await self._put(definitions, precondition)]
        texts = [{"text": one.text, "files": dict(one.files)} for one in definitions.values()]
        done = await self._client.call("POST", "/flows", body={"flows": texts, "dry_run": dry_run})
        return [records.applied(one) for one in done["items"]]

    async def _put(self, definitions: Mapping[str, Definition], precondition: Precondition) -> AppliedFlow:
        if len(definitions) != 1:
            raise InvalidCallError("a precondition is for one flow alone", fix="apply its subflows first")
        ((name, one),) = definitions.items()
        tag = precondition.tag
        condition = {"If-None-Match": "*"} if tag is None else {"If-Match": f'"{tag}"'}
        body = {"text": one.text, "files": dict(one.files)}
        return records.applied(await self._client.call("PUT", f"/flows/{quote(name)}", body=body, headers=condition))

    async def flows(self, *, limit: int | None = None, cursor: str | None = None) -> Page[FlowSummary]:
        if limit is None:
            found = await self._client.pages("/flows")
            return Page(items=tuple(records.flow_summary(one) for one in found))
        page = await self._client.call("GET", "/flows", query={"limit": limit, "cursor": cursor})
        return Page(items=tuple(records.flow_summary(one) for one in page["items"]), next=page["next"])

    async def flow(self, name: str) -> FlowDetail:
        return records.flow_detail(await self._client.call("GET", f"/flows/{quote(name)}"))

    async def flow_versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> Page[FlowVersion]:
        query = {"limit": limit, "cursor": cursor}
        page = await self._client.call("GET", f"/flows/{quote(name)}/versions", query=query)
        return Page(items=tuple(records.flow_version(one) for one in page["items"]), next=page["next"])

    async def flow_version(self, name: str, number: int) -> FlowVersion:
        return records.flow_version(await self._client.call("GET", f"/flows/{quote(name)}/versions/{number}"))

    async def upcoming(self, name: str, *, count: int) -> "Sequence[Upcoming]":
        path = f"/flows/{quote(name, safe='')}/next"
        return [
            records.upcoming(one) for one in (await self._client.call("GET", path, query={"count": count}))["items"]
        ]

    async def enable_flow(self, name: str, *, enabled: bool) -> FlowDetail:
        action = "enable" if enabled else "disable"
        return records.flow_detail(await self._client.call("POST", f"/flows/{quote(name)}/{action}"))

    async def delete_flow(self, name: str) -> None:
        await self._client.call("DELETE", f"/flows/{quote(name)}")

    async def runs(
        self, *, flow: str | None, status: RunStatus | None, limit: int, cursor: str | None = None
    ) -> Page[RunSummary]:
        query = {"flow": flow, "status": status, "limit": limit, "cursor": cursor}
        page = await self._client.call("GET", "/runs", query=query)
        return Page(items=tuple(records.run_summary(one) for one in page["items"]), next=page["next"])

    async def run_report(self, run: str) -> RunReport:
        return records.report(await self._client.call("GET", f"/runs/{quote(run)}"))

    async def run_attempts(self, run: str) -> Sequence[StepRun]:
        found = await self._client.pages(f"/runs/{quote(run)}/steps")
        return [records.attempt(run, one) for one in found]

    async def run_logs(
        self, run: str, *, step: str | None, limit: int | None = None, cursor: str | None = None
    ) -> Page[LogLine]:
        path = f"/runs/{quote(run)}/logs"
        if limit is None:
            found = await self._client.pages(path, query={"step": step})
            return Page(items=tuple(records.line(run, one) for one in found))
        page = await self._client.call("GET", path, query={"step": step, "limit": limit, "cursor": cursor})
        return Page(items=tuple(records.line(run, one) for one in page["items"]), next=page["next"])

    async def run_calls(self, run: str) -> Sequence[ToolCall]:
        found = await self._client.pages(f"/runs/{quote(run)}/tool-calls")
        return [records.call(run, one) for one in found]

    async def run_egress(self, run: str) -> Sequence[EgressRecord]:
        found = await self._client.pages(f"/runs/{quote(run)}/egress")
        return [records.egress(run, one) for one in found]

    async def events(
        self, *, flow: str | None, status: "DeliveryStatus | None", limit: int, cursor: str | None = None
    ) -> "Page[Accepted]":
        query = {"flow": flow, "status": status, "limit": limit, "cursor": cursor}
        page = await self._client.call("GET", "/events", query=query)
        return Page(items=tuple(records.accepted(one) for one in page["items"]), next=page["next"])

    async def event(self, event: str) -> "Accepted":
        return records.accepted(await self._client.call("GET", f"/events/{quote(event, safe='')}"))

    async def redrive(self, event: str) -> "Sequence[Delivery]":
        done = await self._client.call("POST", f"/events/{quote(event, safe='')}/redrive")
        return [records.delivery(one) for one in done["items"]]

    async def redrive_flow(self, flow: str) -> "Sequence[Delivery]":
        done = await self._client.call("POST", f"/flows/{quote(flow, safe='')}/redrive")
        return [records.delivery(one) for one in done["items"]]

    async def create_token(self, principal: str, *, expires_at: datetime | None = None) -> "IssuedToken":
        from engine.tokens import IssuedToken  # noqa: PLC0415 - argon2, which other use cases don't need

        body = {"name": principal, "expires_at": None if expires_at is None else expires_at.isoformat()}
        made = await self._client.call("POST", "/tokens", body=body)
        return IssuedToken(record=records.token(made), text=made["token"])

    async def tokens(self) -> Sequence[TokenRecord]:
        return [records.token(one) for one in (await self._client.call("GET", "/tokens"))["items"]]

    async def revoke_token(self, token: str) -> TokenRecord:
        return records.token(await self._client.call("DELETE", f"/tokens/{quote(token)}"))

    async def definition_of(self, run: str) -> Definition:
        version = await self.run_flow(run)
        path = f"{version.flow} v{version.number}"
        return self._language.load_stored(version.text, dict(version.files), path=path)

    async def run_flow(self, run: str) -> FlowVersion:
        return records.flow_version(await self._client.call("GET", f"/runs/{quote(run, safe='')}/flow"))

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

    async def approvals(self, *, run: str | None, undecided: bool) -> Sequence[Approval]:
        query = {"run": run, "decided": "false" if undecided else "true"}
        found = await self._client.call("GET", "/approvals", query=query)
        return [records.approval(one) for one in found["items"]]

    async def decide(
        self,
        target: str,
        decision: Decision,
        *,
        pairs: Mapping[str, str],
        comment: str | None,
        values: Mapping[str, Json] | None = None,
    ) -> tuple[Approval, str | None]:
        action = "approve" if decision == "approved" else "reject"
        body = {"comment": comment, "texts": dict(pairs), "values": dict(values or {})}
        decided = await self._client.call("POST", f"/approvals/{quote(target, safe='')}/{action}", body=body)
        run: str | None = decided["resumes"]
        if run is not None:
            self._decided.add(run)
        return records.approval(decided), run

    async def approval(self, target: str) -> ApprovalDetail:
        return records.approval_detail(await self._client.call("GET", f"/approvals/{quote(target, safe='')}"))

    async def revoke_approval(self, target: str) -> Approval:
        return records.approval(await self._client.call("POST", f"/approvals/{quote(target, safe='')}/revoke"))

    async def approval_link(self, target: str, principal: str, *, lasts: float | None = None) -> "SignedLink":
        from engine.links import SignedLink  # noqa: PLC0415 - few commands need it

        body = {"principal": principal, "lasts": lasts}
        made = await self._client.call("POST", f"/approvals/{quote(target, safe='')}/links", body=body)
        return SignedLink(
            url=made["url"], principal=made["principal"], expires_at=datetime.fromisoformat(made["expires_at"])
        )

    async def set_secret(self, name: str, value: str, *, keep_old: bool) -> SecretSummary:
        body = {"value": value, "keep_old": keep_old}
        return records.secret(await self._client.call("PUT", f"/secrets/{quote(name, safe='')}", body=body))

    async def secrets(self) -> Sequence[SecretSummary]:
        return [records.secret(one) for one in (await self._client.call("GET", "/secrets"))["items"]]

    async def delete_secret(self, name: str, *, old_only: bool) -> int:
        query = {"old_only": "true" if old_only else "false"}
        done = await self._client.call("DELETE", f"/secrets/{quote(name, safe='')}", query=query)
        return int(done["deleted"])

    async def run_artifacts(self, run: str) -> Sequence[ArtifactRecord]:
        found = await self._client.pages(f"/runs/{quote(run)}/artifacts")
        return [records.artifact(run, one) for one in found]

    async def artifact(self, artifact: str) -> ArtifactRecord:
        found = await self._client.call("GET", f"/artifacts/{quote(artifact, safe='')}/about")
        return records.artifact(found["run_id"], found)

    async def fetch_artifacts(self, artifacts: Sequence[Artifact]) -> Sequence[Path]:
        directory = Path(await asyncio.to_thread(mkdtemp, prefix="stepbox-artifacts-"))
        self._fetched.append(directory)
        for one in artifacts:
            await self._client.save(f"/artifacts/{one.id}", directory / one.id, sha256=one.sha256)
        return [directory / one.id for one in artifacts]

    async def release_artifacts(self, files: Sequence[Path]) -> None:
        for file in files:
            await asyncio.to_thread(file.unlink, missing_ok=True)

    async def close(self) -> None:
        """Remove what was fetched, and end the connection."""
        for directory in self._fetched:
            await asyncio.to_thread(rmtree, directory, ignore_errors=True)
        await self._client.close()

    async def prune(self, *, older_than: float | None = None, dry_run: bool = False) -> "Pruned":
        from engine.retention import Pruned  # noqa: PLC0415 - the store, which other use cases don't need

        body = {"older_than": older_than, "dry_run": dry_run}
        answer = await self._client.call("POST", "/prune", body=body, patience=PATIENT)
        return Pruned(**{field.name: answer[field.name] for field in fields(Pruned)})

    async def diagnose(self, notice: "Callable[[Tried], None]", *, runner: "RunnerName | None" = None) -> "Diagnosis":
        del notice, runner
        raise OnlyThereError(
            "a machine is examined on that machine", fix="run stepbox doctor there, or unset STEPBOX_URL"
        )
