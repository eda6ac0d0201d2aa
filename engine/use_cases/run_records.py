"""What is kept of runs."""

from collections.abc import Sequence

from engine.heartbeat import looked_after
from engine.records import EgressRecord, FlowVersion, LogLine, Page, RunSummary, StepRun, ToolCall
from engine.report import RunReport, report
from engine.resumption import recorded_definition
from engine.use_cases.acting import Acting
from engine.use_cases.cursors import number
from flows.definition import Definition
from flows.values import RunStatus

_PAGE = 1000


class RunRecordUseCases(Acting):
    """What is kept of runs."""

    async def definition_of(self, run: str) -> Definition:
        self._may("runs.read")
        store, found = await self._run(run)
        return await recorded_definition(store, self._language, found)

    async def run_flow(self, run: str) -> FlowVersion:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.flows.get(found.flow_version_id)

    async def runs(
        self, *, flow: str | None, status: RunStatus | None, limit: int, cursor: str | None = None
    ) -> Page[RunSummary]:
        self._may("runs.read")
        store = await self._parts.store()
        page = await store.runs.list(
            workspace=self._workspace, flow=flow, status=status, limit=limit, cursor=cursor, reach=self._reach
        )
        return Page(items=tuple(looked_after(run) for run in page.items), next=page.next)

    async def run_report(self, run: str) -> RunReport:
        self._may("runs.read")
        store, found = await self._run(run)
        return report(looked_after(found), await store.steps.summaries(found.id))

    async def run_attempts(self, run: str) -> Sequence[StepRun]:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.steps.list(found.id)

    async def run_logs(
        self, run: str, *, step: str | None, limit: int | None = None, cursor: str | None = None
    ) -> Page[LogLine]:
        self._may("runs.read")
        after = None if cursor is None else number(cursor)
        store, found = await self._run(run)
        if limit is not None:
            return await store.logs.list(found.id, step_id=step, limit=limit, cursor=after)
        lines: list[LogLine] = []
        while True:
            page = await store.logs.list(found.id, step_id=step, limit=_PAGE, cursor=after)
            lines.extend(page.items)
            if page.next is None:
                return Page(items=tuple(lines))
            after = int(page.next)

    async def run_calls(self, run: str) -> Sequence[ToolCall]:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.calls.list(found.id)

    async def run_egress(self, run: str) -> Sequence[EgressRecord]:
        self._may("runs.read")
        store, found = await self._run(run)
        return await store.egress.list(found.id)
