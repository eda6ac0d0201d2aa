"""Engines that are killed at a given moment: a process that has imported all and forks for each, of which each is real.

Executed by the tests. Reads a line of JSON for each engine and answers with its exit status; says "ready" when it has
imported all. The engine runs a flow, or resumes a run, by the real service, and writes its report where it is told to.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

from engine.orchestrator.environment import prepare
from engine.store import Store
from engine.store.calls import Calls
from engine.store.database import Database
from engine.tool_calls import ToolCaller

IMPORTED = (
    *("engine.bootstrap.parts", "engine.local_service", "engine.orchestrator.prefect_gears", "jsonschema"),
    *("steps.tools.workspace", "steps.tools.http_request", "steps.sandbox.nsjail"),
)


class Death:
    """Kills this process at the moment of that number, counted from 1."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.passed = 0

    def moment(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The method, with a moment before it and one after it."""

        async def watched(*arguments: Any, **options: Any) -> Any:
            self.moment()
            result = await method(*arguments, **options)
            self.moment()
            return result

        return watched

    def in_tool_calls(self) -> None:
        """Before and after each record of a call, the call itself, and the commit of both together."""
        for owner, name in ((Calls, "open"), (Calls, "add"), (Calls, "finish"), (ToolCaller, "_tried")):
            setattr(owner, name, self.around(getattr(owner, name)))
        transaction = Store.transaction

        @asynccontextmanager
        async def watched(store: Store) -> AsyncIterator[None]:
            async with transaction(store):
                yield
            self.moment()

        Store.transaction = watched  # type: ignore[method-assign,assignment]

    def in_writes(self) -> None:
        """Before and after each write of the store."""
        Database.write = self.around(Database.write)  # type: ignore[method-assign,assignment]


async def live(what: dict[str, Any], death: Death) -> dict[str, Any]:
    """Be an engine."""
    from engine.bootstrap import open_service  # noqa: PLC0415 - in the fork, with its own environment
    from engine.progress import NoObserver  # noqa: PLC0415 - the same
    from engine.service import FlowText  # noqa: PLC0415 - the same

    async with open_service() as service:
        if what.get("resume") is not None:
            report = await service.resume(what["resume"], NoObserver())
        else:
            flow = Path(what["flow"])
            text = await asyncio.to_thread(flow.read_bytes)
            definition = service.load(FlowText(text=text, path=flow.name, directory=flow.parent))
            report = await service.run(definition, what.get("inputs", {}), NoObserver(), directory=flow.parent)
        passed = death.passed
    return {**report.document(), "moments": passed}


def be(what: dict[str, Any]) -> NoReturn:
    os.environ.update({"STEPBOX_RUNNER": "nsjail", **what["environment"]})
    death = Death(what.get("kill_at"))
    (death.in_writes if what.get("where") == "writes" else death.in_tool_calls)()
    try:
        report = asyncio.run(live(what, death))
    except BaseException as problem:  # noqa: BLE001 - told to the test
        report = {"raised": getattr(problem, "code", type(problem).__name__), "message": str(problem)}
    Path(what["report"]).write_text(json.dumps(report))
    os._exit(0)


def answer(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def serve(home: Path) -> None:
    prepare(home, None)
    for name in IMPORTED:
        importlib.import_module(name)
    answer("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            be(json.loads(line))
        _, status = os.waitpid(child, 0)
        answer(str(os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
