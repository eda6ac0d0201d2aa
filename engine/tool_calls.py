"""Calls of tools on behalf of a run: only granted ones, with checked arguments, each recorded, none made twice."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

from engine.asking import ApprovalRejectedError, Asking
from engine.journal import Happened, Journal, OutcomeUnknownError, Unknown
from engine.policies import Policies
from engine.policy import require_tool
from engine.progress import CallEnded, NoObserver, Observer
from engine.records import ToolCall
from engine.run_secrets import log_failure, mask_problem
from engine.store import Store
from engine.store.calls import OUTCOME_UNKNOWN
from engine.store.errors import LeaseLostError
from flows.contracts import StepError, ToolSpec
from flows.errors import StepboxError
from flows.values import Json
from steps.ceilings import Ceilings
from steps.masking import Mask
from steps.tools.catalogue import ToolCatalogue
from steps.tools.contract import InvalidArgumentsError, NotGrantedError, Tool, ToolContext, ToolError, ToolServices

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The attempt that calls, the full names of the tools granted to it, and the host directories it may import from.

    ``tools_granted`` and ``host_directories`` are empty for code that was given nothing. ``journal`` is the attempt's.
    ``principal`` is the name of the one whom its run, of that ``flow``, acts for.
    """

    workspace: str
    principal: str
    flow: str
    run_id: str
    step_id: str
    item: int | None
    attempt: int
    tools_granted: frozenset[str]
    host_directories: tuple[Path, ...]
    journal: Journal
    asking: Asking | None = None
    """None where nobody can be asked: calls of tools that ask are refused."""
    observer: Observer = field(default_factory=NoObserver)
    """Hears of each call that was made."""
    mask: Mask | None = None
    """What hides the secrets of the run in what is recorded; None where it has none."""


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The arguments of a call: as the tool gets them, and as records show them."""

    arguments: Json = field(repr=False)
    shown: Json


_Make: TypeAlias = Callable[[], Awaitable[Json]]
"""Makes a call; gives what it came to."""


class ToolCaller:
    """Makes the calls of all runs."""

    def __init__(
        self, *, catalogue: ToolCatalogue, services: ToolServices, store: Store, policies: Policies | None = None
    ) -> None:
        self._policies = policies or Policies.of(store)
        self._catalogue = catalogue
        self._services = services
        self._store = store

    def journal(self, *, run_id: str, step_id: str, item: int | None, attempt: int, one_call: bool) -> Journal:
        """What an attempt finds recorded; see :class:`engine.journal.Journal`."""
        return Journal(
            self._store, self._spec_of, run_id=run_id, step_id=step_id, item=item, attempt=attempt, one_call=one_call
        )

    async def call(self, name: str, arguments: Json, caller: Caller, *, shown: Json = None) -> Json:
        """Make one call by full name, recorded; or give the recorded result of one that has happened.

        ``shown`` are the arguments as records show them, and by which the call is known again, where they aren't the
        arguments themselves: neither has the value of a secret.

        Raises:
            ToolError: it is unknown, not granted, its arguments don't fit, or it failed.
            ForbiddenError: the one whom the run acts for may not use it, or not any more; a call that has happened
                gives nothing then, either.
            OutcomeUnknownError: it may have happened in an earlier attempt, and must not be made twice.
            ApprovalRejectedError: the tool asks a person first, who said no.
            UndecidedError: nobody has said yes or no yet; see :class:`engine.asking.Asking`.
            JournalMismatchError: see :meth:`engine.journal.Journal.claim`.
            LeaseLostError: another engine drives the run now.
        """
        tool = self._catalogue.tool(name)
        if tool.spec.name not in caller.tools_granted:
            raise NotGrantedError(
                f"step '{caller.step_id}' may not call {tool.spec.name}",
                fix=f"add it to the step: tools: [{tool.spec.name}]",
            )
        await self._require(tool, caller)
        shown = arguments if shown is None else shown
        if caller.mask is not None:
            shown = caller.mask.arguments(shown)
            if tool.spec.in_store:
                # What it keeps is for all to read who may read the workspace.
                arguments = shown
        self._check_arguments(tool.spec, arguments, shown)
        call = _Asked(arguments=arguments, shown=shown)
        ceilings = await self._policies.ceilings(caller.workspace)
        if tool.spec.approval == "never" and not ceilings.asks(tool.spec.name):
            return await self._claim(tool, call, caller, ceilings)
        if caller.asking is None:
            raise NotGrantedError(f"{tool.spec.name} asks a person before each call, which can't be done here")
        subject = caller.asking.number(tool.spec.name, shown)
        try:
            return await self._claim(tool, call, caller, ceilings, subject=subject)
        except ApprovalRejectedError:
            raise
        except StepboxError:
            caller.asking.failed(tool.spec.name, shown)
            raise

    async def _require(self, tool: Tool, caller: Caller) -> None:
        """By what the principal may do now, which is looked at anew for each call."""
        record = await self._store.principals.current(caller.workspace, caller.principal)
        require_tool(caller.principal, record, caller.flow, tool.spec.name)

    def _check_arguments(self, spec: ToolSpec, arguments: Json, shown: Json) -> None:
        """Check the arguments; what a message has of them is as records show them."""
        try:
            self._catalogue.check_arguments(spec, arguments)
        except InvalidArgumentsError:
            if shown is arguments:
                raise
            self._catalogue.check_arguments(spec, shown)
            raise InvalidArgumentsError(
                f"{spec.name}: the value of a secret doesn't match what the argument has to be",
                fix="look at the tool's schema, and set the secret to a value that matches",
            ) from None

    async def _claim(
        self, tool: Tool, asked: "_Asked", caller: Caller, ceilings: Ceilings, *, subject: str | None = None
    ) -> Json:
        """Give the recorded result of a call that has happened, or make it: where it has a subject, asked for."""
        arguments = asked.arguments
        claim = await caller.journal.claim(tool.spec.name, asked.shown)
        if isinstance(claim, Happened):
            return claim.result
        nature = tool.spec.nature(arguments)
        if isinstance(claim, Unknown) and nature.effect == "write" and not nature.idempotent:
            raise _outcome_unknown(tool.spec.name)
        if subject is not None and caller.asking is not None:
            await caller.asking.permit(tool.spec, asked.shown, subject)
        call = self._store.calls.new(
            caller.run_id,
            caller.step_id,
            tool.spec.name,
            asked.shown,
            attempt=caller.attempt,
            item=caller.item,
            idempotency_key=claim.idempotency_key,
        )
        context = ToolContext(
            services=self._services,
            workspace=caller.workspace,
            run_id=caller.run_id,
            step_id=caller.step_id,
            item=caller.item,
            attempt=caller.attempt,
            idempotency_key=call.idempotency_key,
            host_directories=caller.host_directories,
            ceilings=ceilings,
        )
        make = partial(self._tried, tool, arguments, context, caller.mask)
        with _told(call, caller.observer):
            if not tool.spec.in_store:
                return await self._make(make, call)
            if nature.effect == "read":
                return await self._read(make, call)
            return await self._commit(make, call)

    async def _make(self, make: _Make, call: ToolCall) -> Json:
        """Make a call that reaches outside of the store, recorded before and after."""
        calls = self._store.calls
        await calls.open(call)
        try:
            result = await make()
        except asyncio.CancelledError:
            message = "the attempt was cut off while the call was going on"
            await calls.finish(call.id, error=StepError(code=OUTCOME_UNKNOWN, message=message), uncertain=True)
            raise
        except StepboxError as problem:
            uncertain = isinstance(problem, ToolError) and problem.uncertain
            await calls.finish(call.id, error=StepError.of(problem), uncertain=uncertain)
            raise
        await calls.finish(call.id, result=result)
        return result

    async def _read(self, make: _Make, call: ToolCall) -> Json:
        """Read from the store. Nothing is lost where it ends before it is recorded."""
        try:
            result = await make()
        except StepboxError as problem:
            await self._store.calls.add(call, error=StepError.of(problem))
            raise
        await self._store.calls.add(call, result=result)
        return result

    async def _commit(self, make: _Make, call: ToolCall) -> Json:
        """Write to the store, together with the end of the record: both are there, or neither.

        That it began is recorded before, so that a later attempt knows the call, though it may not have happened.
        """
        calls = self._store.calls
        await calls.open(call)
        written = False
        try:
            async with self._store.transaction():
                result = await make()
                await calls.finish(call.id, result=result)
                written = True
        except asyncio.CancelledError:
            if not written:
                error = StepError(code="cancelled", message="the attempt ended before the call was made")
                await calls.finish(call.id, error=error)
            raise
        except StepboxError as problem:
            await calls.finish(call.id, error=StepError.of(problem))
            raise
        return result

    async def _tried(self, tool: Tool, arguments: Mapping[str, Json], context: ToolContext, mask: Mask | None) -> Json:
        """The tool's result, without the values of secrets; a bug of the tool's is its failure."""
        try:
            result = await tool.call(arguments, context)
        except LeaseLostError:
            raise
        except StepboxError as problem:
            if mask is not None:
                mask_problem(problem, mask)
            raise
        except Exception as problem:
            name = tool.spec.name
            log_failure(_log, f"tool {name} failed in run {context.run_id}", problem, mask)
            broken = BrokenToolError(f"{name} failed: {type(problem).__name__}: {problem}")
            if mask is not None:
                mask_problem(broken, mask)
            raise broken from problem
        return result if mask is None else mask.json(result)

    def _spec_of(self, name: str) -> ToolSpec | None:
        try:
            return self._catalogue.tool(name).spec
        except StepboxError:
            # Of a plug-in that is gone.
            return None


@contextmanager
def _told(call: ToolCall, observer: Observer) -> Iterator[None]:
    """Tell the observer of the call's end; not where another engine drives the run by then."""
    error: StepError | None = None
    try:
        yield
    except LeaseLostError:
        raise
    except asyncio.CancelledError:
        error = StepError(code="cancelled", message="the attempt ended meanwhile")
        raise
    except StepboxError as problem:
        error = StepError.of(problem)
        raise
    else:
        observer.notice(CallEnded(call=replace(call, ended_at=datetime.now(UTC))))
    finally:
        if error is not None:
            observer.notice(CallEnded(call=replace(call, error=error, ended_at=datetime.now(UTC))))


class BrokenToolError(ToolError):
    """A tool failed by a bug of its own; what it had done by then nobody knows."""

    uncertain = True


def _outcome_unknown(name: str) -> OutcomeUnknownError:
    return OutcomeUnknownError(
        f"a call of {name} was cut off in an earlier attempt: it may have been made or not, and must not be made twice",
        fix="look whether it was made. The code can catch this error, look itself and make the call again; where a "
        "call may be made twice, tell the tool so, as by `idempotent: true` for http.request",
    )
