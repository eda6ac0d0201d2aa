"""Calls of tools on behalf of a run: only granted ones, with checked arguments, each recorded."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from engine.store import Store
from flows.contracts import StepError
from flows.errors import StepboxError
from flows.values import Json
from steps.tools.catalogue import ToolCatalogue
from steps.tools.contract import NotGrantedError, ToolContext, ToolError, ToolServices

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The attempt that calls, the full names of the tools granted to it, and the host directories it may import from.

    ``tools_granted`` and ``host_directories`` are empty for code that was given nothing.
    """

    workspace: str
    run_id: str
    step_id: str
    item: int | None
    attempt: int
    tools_granted: frozenset[str]
    host_directories: tuple[Path, ...]


class ToolCaller:
    """Makes the calls of all runs."""

    def __init__(self, *, catalogue: ToolCatalogue, services: ToolServices, store: Store) -> None:
        self._catalogue = catalogue
        self._services = services
        self._store = store

    async def call(self, name: str, arguments: Json, caller: Caller) -> Json:
        """Make one call by full name, recorded before and after.

        Raises:
            ToolError: it is unknown, not granted, its arguments don't fit, or it failed.
        """
        tool = self._catalogue.tool(name)
        if tool.spec.name not in caller.tools_granted:
            raise NotGrantedError(
                f"step '{caller.step_id}' may not call {tool.spec.name}",
                fix=f"add it to the step: tools: [{tool.spec.name}]",
            )
        self._catalogue.check_arguments(tool.spec, arguments)
        record = await self._store.calls.begin(
            caller.run_id, caller.step_id, tool.spec.name, arguments, attempt=caller.attempt, item=caller.item
        )
        context = ToolContext(
            services=self._services,
            workspace=caller.workspace,
            run_id=caller.run_id,
            step_id=caller.step_id,
            item=caller.item,
            attempt=caller.attempt,
            idempotency_key=record.idempotency_key,
            host_directories=caller.host_directories,
        )
        try:
            result = await tool.call(arguments, context)
        except asyncio.CancelledError:
            error = StepError(code="cancelled", message="the attempt ended before the call did")
            await self._store.calls.finish(record.id, error=error)
            raise
        except StepboxError as problem:
            await self._store.calls.finish(record.id, error=StepError.of(problem))
            raise
        except Exception as problem:
            _log.exception("tool %s failed in run %s", tool.spec.name, caller.run_id)
            failure = ToolError(f"{tool.spec.name} failed: {type(problem).__name__}: {problem}")
            await self._store.calls.finish(record.id, error=StepError.of(failure))
            raise failure from problem
        await self._store.calls.finish(record.id, result=result)
        return result
