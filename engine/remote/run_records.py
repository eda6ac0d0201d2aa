"""What is kept of runs."""

from collections.abc import Sequence
from urllib.parse import quote

from engine.records import EgressRecord, FlowVersion, LogLine, Page, RunSummary, StepRun, ToolCall
from engine.remote import records
from engine.remote.calling import Calling
from engine.report import RunReport
from flows.definition import Definition
from flows.values import RunStatus


class RunRecordCalls(Calling):
    """What is kept of runs."""

    async def definition_of(self, run: str) -> Definition:
        version = await self.run_flow(run)
        path = f"{version.flow} v{version.number}"
        return self._language.load_stored(version.text, dict(version.files), path=path)

    async def run_flow(self, run: str) -> FlowVersion:
        return records.flow_version(await self._client.call("GET", f"/runs/{quote(run, safe='')}/flow"))

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
