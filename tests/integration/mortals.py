"""What tests of killed engines share: the process that forks them, and what they left."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.records import Run, StepRun, ToolCall
from engine.store import Store
from steps.tools.content import TaskQuery

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class End:
    """How an engine ended: killed, or with a report."""

    status: int
    report: dict[str, Any] | None

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Forge:
    """Makes engines."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("STEPBOX_", "PREFECT_"))
        }
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("mortal.py")), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT)},
        )
        self._ask(None)

    def __call__(self, **what: Any) -> End:
        report = self._directory / "report.json"
        report.unlink(missing_ok=True)
        status = int(self._ask({**what, "report": str(report)}))
        return End(status=status, report=json.loads(report.read_text()) if report.exists() else None)

    def close(self) -> None:
        with self._server:
            pass

    def _ask(self, what: dict[str, Any] | None) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        if what is not None:
            self._server.stdin.write(json.dumps(what) + "\n")
            self._server.stdin.flush()
        answer = self._server.stdout.readline()
        assert answer, "the process that forks engines has ended"
        return answer


@dataclass
class Home:
    """An installation, and its engines one after the other."""

    forge: Forge
    directory: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.directory}/stepbox.db"

    def run(self, flow: Path, **what: Any) -> End:
        return self._live(flow=str(flow), **what)

    def resume(self, run_id: str, **what: Any) -> End:
        return self._live(resume=run_id, **what)

    def _live(self, **what: Any) -> End:
        return self.forge(environment={"STEPBOX_HOME": str(self.directory), **self.environment}, **what)

    async def main_run(self) -> Run | None:
        """The one run that no other started, if it has begun."""
        async with await Store.open(self.url) as store:
            found = [run for run in (await store.runs.list(limit=200)).items if run.parent_id is None]
            assert len(found) <= 1
            return await store.runs.get(found[0].id) if found else None

    async def runs(self) -> list[Run]:
        async with await Store.open(self.url) as store:
            return [await store.runs.get(run.id) for run in (await store.runs.list(limit=200)).items]

    async def titles(self) -> Counter[str]:
        """How many tasks there are of each title."""
        async with await Store.open(self.url) as store:
            query = TaskQuery(statuses=[], limit=1000, offset=0)
            return Counter(task.title for task in await store.content.search_tasks("default", query))

    async def calls(self, run_id: str) -> tuple[ToolCall, ...]:
        async with await Store.open(self.url) as store:
            return await store.calls.list(run_id)

    async def attempts(self, run_id: str) -> tuple[StepRun, ...]:
        async with await Store.open(self.url) as store:
            return await store.steps.list(run_id)

    async def to_its_end(self, flow: Path, *kills: int, where: str = "calls") -> dict[str, Any]:
        """Run a flow with one engine after the other, each killed at its moment, and let the last one live."""
        end = self.run(flow, kill_at=kills[0] if kills else None, where=where)
        for kill_at in (*kills[1:], None):
            if not end.killed:
                break
            run = await self.main_run()
            if run is None:
                end = self.run(flow, kill_at=kill_at, where=where)
            elif run.ended_at is not None:
                break
            else:
                end = self.resume(run.id, kill_at=kill_at, where=where)
        run = await self.main_run()
        assert run is not None
        if end.report is None or run.ended_at is None:
            assert run.ended_at is not None, end
            return {"run_id": run.id, "status": run.status.value, "output": run.output}
        return end.report
