"""Calls of tools that ask a person first: whether one attempt may make them, and its end where it has to wait.

A call that nobody has decided on doesn't return: once the attempt's other calls have ended, and no further one comes,
the attempt ends too. So calls made at once are asked for together, and none is cut off.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import ClassVar, Final

from engine.store import Store
from engine.store.calls import arguments_digest
from flows.contracts import Question, StepResult, ToolSpec, waiting
from flows.values import Json
from steps.tools.contract import ToolError

QUIET: Final = 0.2
"""Seconds without a further call, and with none going on, after which an attempt that waits is ended."""


class ApprovalRejectedError(ToolError):
    """A person said no to the call."""

    code: ClassVar[str] = "approval_rejected"


class UndecidedError(Exception):
    """Nobody has decided on the call yet. Not a :class:`flows.errors.StepboxError`: no code may take it for an end."""

    def __init__(self, waits: StepResult) -> None:
        super().__init__()
        self.waits = waits


class Asking:
    """What one attempt of a step (or item) may do that has to be asked for. ``stop`` ends the attempt."""

    def __init__(self, store: Store, *, run_id: str, step_id: str, item: int | None) -> None:
        self._store = store
        self._run_id = run_id
        self._step_id = step_id
        self._item = item
        self.stop: Callable[[], None] | None = None
        self.waits: StepResult | None = None
        """What the attempt comes to where it was stopped."""
        self._made: Counter[str] = Counter()
        self._going_on = 0
        self._calls = 0
        self._stopped = False

    async def make(self, call: Callable[[], Awaitable[Json]]) -> Json:
        """Make a call of the attempt's; one that is undecided ends with the attempt."""
        if not self._stopped:
            self._going_on += 1
            self._calls += 1
            try:
                return await call()
            except UndecidedError as undecided:
                self.waits = self.waits or undecided.waits
            finally:
                self._going_on -= 1
                if self.waits is not None and self._going_on == 0:
                    asyncio.get_running_loop().call_later(QUIET, self._stop_after, self._calls)
        return await asyncio.get_running_loop().create_future()

    def _stop_after(self, calls: int) -> None:
        if self._calls == calls and self._going_on == 0 and self.stop is not None:
            self._stopped = True
            self.stop()

    def number(self, tool: str, arguments: Json) -> str:
        """What tells equal calls of the attempt apart, by how many there were before: each is asked for by itself."""
        digest = arguments_digest(tool, arguments)
        self._made[digest] += 1
        return f"{digest}/{self._made[digest]}"

    def failed(self, tool: str, arguments: Json) -> None:
        """Let the permission for a call that failed be used by the same call once more."""
        self._made[arguments_digest(tool, arguments)] -= 1

    async def permit(self, spec: ToolSpec, arguments: Json, subject: str) -> None:
        """Return where a person said yes to the call.

        Raises:
            ApprovalRejectedError: a person said no.
            UndecidedError: nobody has decided; the question is put.
        """
        question = Question(message=f"Call {spec.name}?", details={"tool": spec.name, "arguments": arguments})
        asked = await self._store.approvals.ask(
            self._run_id, self._step_id, question, item=self._item, subject=subject, kind="tool"
        )
        if asked.decision is None:
            raise UndecidedError(waiting(f"waits for an approval: call {spec.name}", fix=f"stepbox approve {asked.id}"))
        if asked.decision != "approved":
            why = f": {asked.comment}" if asked.comment else ""
            raise ApprovalRejectedError(f"{asked.by or 'the end of the run'} said no to this call of {spec.name}{why}")
