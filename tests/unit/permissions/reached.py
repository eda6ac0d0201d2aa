"""A service with the real policy, and behind it nothing: whatever is let through comes to :class:`ReachedError`."""

import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.bootstrap import language
from engine.local_service import LocalService
from engine.local_serving import LocalServing
from engine.policy import ForbiddenError
from engine.principal import Principal
from engine.principals import GrantPatterns
from engine.progress import NoObserver
from engine.records import Run
from engine.report import RunReport
from engine.requests import AnsweredRequest
from engine.service import FlowText, Service, Snippet
from engine.trace_context import TraceContext
from flows.definition import Definition
from flows.errors import StepboxError
from flows.values import RunStatus
from tests.unit.permissions.matrix import PEOPLE

TEXT = "flow: greet\nsteps: [{id: a, shell: echo 1}]\n"
FLOW = FlowText(text=TEXT.encode(), path="f.yaml", directory=None)
DEFINITION = language().load_text(TEXT, path="f.yaml", directory=Path())
RUN = Run(
    id="01K6ZQ4T5N8W0Q2M4R6X8Y0A1B",
    workspace="default",
    flow="greet",
    flow_version_id="1",
    status=RunStatus.FAILED,
    inputs={},
    created_at=datetime.now(UTC),
)
GIVEN: dict[str, Any] = {
    "flow": "greet",
    "flows": [FLOW],
    "definition": DEFINITION,
    "inputs": {},
    "observer": NoObserver(),
    "directory": Path(),
    "target": "greet",
    "snippet": Snippet(language="shell", code=""),
    "seconds": 0,
    "number": 1,
    "enabled": True,
    "status": None,
    "limit": 1,
    "step": None,
    "notice": lambda _tried: None,
    "artifacts": (),
    "document": {},
    "files": (),
    "grants": GrantPatterns(tools=["*"]),
}


class ReachedError(StepboxError):
    """The policy has let it through."""

    code = "reached"


class Nothing:
    """Parts of an installation that there isn't."""

    language = language()

    def __getattr__(self, _name: str) -> Any:
        raise ReachedError("let through")


class NoServing(LocalServing):
    """A service of nothing, whose tokens are the names of principals."""

    def __init__(self) -> None:
        """Without parts."""

    def __getattr__(self, _name: str) -> Any:
        raise ReachedError("let through")

    async def authenticate(self, token: str, address: str | None = None) -> Principal:
        del address
        return PEOPLE[token]

    def service(self, principal: Principal = PEOPLE["viewer"]) -> Service:
        return service_of(principal)

    def trace(self, traceparent: str | None) -> TraceContext | None:
        del traceparent
        return None

    def requested(self, request: AnsweredRequest) -> None:
        """Not counted."""


def service_of(principal: Principal) -> LocalService:
    return LocalService(Nothing(), principal)  # type: ignore[arg-type]


class Answering(LocalService):
    """Has what commands read before they do something."""

    async def definition(self, flow: str) -> Definition:
        with suppress(ReachedError):
            return await super().definition(flow)
        return DEFINITION

    async def definition_of(self, run: str) -> Definition:
        with suppress(ReachedError):
            return await super().definition_of(run)
        return DEFINITION

    async def run_report(self, run: str) -> RunReport:
        with suppress(ReachedError):
            return await super().run_report(run)
        return RunReport(run=RUN, steps={})


def given(operation: Callable[..., object], **other: Any) -> dict[str, Any]:
    """What an operation takes."""
    required = [
        each.name
        for each in inspect.signature(operation).parameters.values()
        if each.default is inspect.Parameter.empty
    ]
    return {each: {**GIVEN, **other}.get(each, "x") for each in required}


async def is_let_through(call: Callable[[], object | Awaitable[object]]) -> bool:
    try:
        outcome = call()
        if inspect.isawaitable(outcome):
            await outcome
    except ReachedError:
        return True
    except ForbiddenError:
        return False
    return True
