"""``network: full``: an admin decides on it, once for each version of a flow.

A version is its text and its files, so that a flow that is edited is another one. Its steps wait until it is approved.
"""

from collections.abc import Collection
from typing import Final

from engine import flow_changes
from engine.approvals import decider
from engine.policies import Policies
from engine.principal import Principal
from engine.questions import requesters_of
from engine.records import FlowVersion, Run
from engine.store import Store
from flows.contracts import Asked, Question, StepError, StepResult, waiting
from flows.definition import Definition
from flows.model import StepConfig
from flows.values import Json, StepStatus
from steps.code import CodeStep
from steps.image import ImageStep
from steps.sandboxed import SandboxConfig

UNAPPROVED: Final = "network_unapproved"
"""The code of steps whose version an admin has rejected."""
ADMINS: Final = "role:admin"


class Admission:
    """Whether the steps of one run may have the whole network."""

    def __init__(self, store: Store, policies: Policies, run: Run, definition: Definition) -> None:
        self._store = store
        self._policies = policies
        self._run = run
        self._definition = definition

    async def refusal(self, step: StepConfig) -> StepResult | None:
        """What a step comes to that may not have it, or not yet; None: it doesn't ask for it, or may.

        Looked up for every attempt, so that a decision which was taken back holds from the next one on.
        """
        if not _is_full(step) or (await self._policies.current(self._run.workspace)).full_network == "allow":
            return None
        asked = await self._store.full_network.state(self._run.flow_version_id)
        if asked is None:
            version = await self._store.flows.get(self._run.flow_version_id)
            first = await self._store.runs.root(self._run.id)
            by = requesters_of(first.principal)
            asked = await ask(self._store, version, self._definition, requesters=by)
        if asked.decision == "approved":
            return None
        if asked.decision is None:
            message = f"waits for an admin to approve `network: full` of flow '{self._run.flow}' as it is now"
            return waiting(message, fix=f"stepbox approve {asked.id}")
        why = f": {asked.comment}" if asked.comment else ""
        error = StepError(
            code=UNAPPROVED,
            message=f"{asked.by} said no to `network: full` of this version of flow '{self._run.flow}'{why}",
            fix='name the hosts: network: {allow: ["api.example.com"]}; or ask the admin to take the no back: '
            f"stepbox approvals revoke {asked.id}",
        )
        return StepResult(status=StepStatus.FAILED, error=error)


def needs_approval(definition: Definition) -> bool:
    """Whether a step of the flow is to have the whole network."""
    return any(_is_full(step) for step in definition.steps.values())


async def ask(store: Store, version: FlowVersion, definition: Definition, *, requesters: Collection[str]) -> Asked:
    """How the question about a version stands, which is put where there is none."""
    question = await _question(store, version, definition)
    return await store.full_network.ask(version, question, requesters=requesters)


async def approve_own(store: Store, definition: Definition, by: Principal, *, act: str) -> bool:
    """Have a version approved by an admin who has handed it over to be run here and now; whether that was needed.

    ``act`` says what the admin did. What another admin has rejected stays so.
    """
    if not needs_approval(definition):
        return False
    (version,) = await store.flows.put_versions(by.workspace, [definition])
    question = await _question(store, version, definition)
    return await store.full_network.decided(version, question, by=decider(by), via=by.kind, comment=act)


async def _question(store: Store, version: FlowVersion, definition: Definition) -> Question:
    known = await store.full_network.last_approved(version.workspace, version.flow)
    before = None if known in (None, version.id) else await store.flows.get(str(known))
    details: dict[str, Json] = {
        "flow": version.flow,
        "version": version.number,
        "digest": version.digest,
        "steps": [_shown(step, definition.kinds[step.id]) for step in definition.steps.values() if _is_full(step)],
        "approved_before": None if before is None else before.number,
        "diff": None if before is None else flow_changes.difference(before, definition),
    }
    names = ", ".join(str(one["step"]) for one in details["steps"])
    message = f"Let flow '{version.flow}' v{version.number} reach every public host (step {names})?"
    return Question(message=message, details=details, approvers=(ADMINS,))


def _is_full(step: StepConfig) -> bool:
    return isinstance(step, SandboxConfig) and step.network == "full"


def _shown(step: StepConfig, kind: str) -> dict[str, Json]:
    """What a step executes, and what it is given that it could send out."""
    shown: dict[str, Json] = {"step": step.id, "kind": kind}
    if isinstance(step, CodeStep):
        shown["code"] = step.source
    elif isinstance(step, ImageStep):
        shown |= {key: value for key in ("image", "run", "args") if (value := getattr(step, key)) is not None}
    if step.with_:
        shown["with"] = dict(step.with_)
    assert isinstance(step, SandboxConfig)
    return shown | {key: list(value) for key in ("tools", "secrets", "files") if (value := getattr(step, key))}
