"""Whose doing use cases are, and that what they refuse is recorded: for all of them in this one place.

What a use case does is recorded where it does it, in the same transaction.
"""

from collections.abc import Awaitable, Callable
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Final, TypeVar

from engine.audit import Actor, Target, acting_as
from engine.policy import ForbiddenError
from engine.refusals import reason, recorded_or_not
from engine.store.errors import DecidedError
from engine.use_cases.acting import Acting
from flows.errors import RefusedError, StepboxError

_Acting = TypeVar("_Acting", bound=type[Acting])

ACTIONS: Final = {
    "apply": "flow.apply",
    "enable_flow": "flow.enable",
    "delete_flow": "flow.delete",
    "run": "run.start",
    "run_known": "run.start",
    "start": "run.start",
    "retry": "run.start",
    "start_retry": "run.start",
    "execute": "run.start",
    "cancel": "run.cancel",
    "resume": "run.resume",
    "have_resumed": "run.resume",
    "decide": "approval.decide",
    "revoke_approval": "approval.revoke",
    "approval_link": "approval.link",
    "redrive": "event.redrive",
    "redrive_flow": "event.redrive",
    "set_secret": "secret.set",
    "delete_secret": "secret.delete",
    "rotate_secret": "secret.rotate",
    "rotate_secret_key": "secret.rotate_key",
    "create_token": "token.create",
    "revoke_token": "token.revoke",
    "create_principal": "principal.create",
    "set_role": "principal.set_role",
    "enable_principal": "principal.enable",
    "delete_principal": "principal.delete",
    "grant": "grant.add",
    "ungrant": "grant.remove",
    "create_workspace": "workspace.create",
    "delete_workspace": "workspace.delete",
    "set_policy": "policy.set",
    "prune": "prune",
    "diagnose": "doctor",
    "rekey_audit": "audit.rekey",
    "export_audit": "audit.export",
}
"""What the audit calls the use cases that change something; others have their own names."""


def recorded(service: _Acting) -> _Acting:
    """Have each use case of a service be its principal's doing, and each refusal recorded."""
    for name in dir(service):
        method = getattr(service, name)
        if not name.startswith("_") and iscoroutinefunction(method):
            setattr(service, name, _recorded(name, method))
    return service


def _recorded(name: str, use_case: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(use_case)
    async def act(self: Acting, *arguments: Any, **options: Any) -> Any:
        with acting_as(Actor.of(self.who)):
            try:
                return await use_case(self, *arguments, **options)
            except (ForbiddenError, RefusedError, DecidedError) as refused:
                await _record(self, name, refused, arguments)
                raise

    return act


async def _record(service: Acting, name: str, refused: StepboxError, arguments: tuple[Any, ...]) -> None:
    subject = arguments[0] if arguments and isinstance(arguments[0], str) else None
    principal = service.who
    with recorded_or_not(refused):
        await (await service.refusals()).note(
            key=(principal.workspace, principal.name, name),
            workspace=principal.workspace,
            action=ACTIONS.get(name, name),
            target=None if subject is None else Target(kind="named", id=subject),
            details=reason(refused),
        )
