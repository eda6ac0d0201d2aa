"""What Stepbox tells of itself to the flows that trigger on it, in the transaction of what it tells of."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from engine.deliveries import Delivery, KeptEvent
from engine.intake.receiver import Receiver
from engine.questions import Approval
from engine.snippets import BY_ITSELF
from engine.store.run_audit import EndedRun
from engine.store.run_ends import Interest
from flows.contracts import StepError
from flows.values import Json, RunStatus
from triggers.event.causes import caused_by
from triggers.event.own import Origin, RunOutcome, approval_requested, run_ended, trigger_dead

_OUTCOMES: Final[Mapping[RunStatus, RunOutcome]] = {
    RunStatus.SUCCEEDED: "succeeded",
    RunStatus.FAILED: "failed",
    RunStatus.CANCELLED: "cancelled",
}


class OwnEvents:
    """Tells of ends of runs, of questions to people, and of deliveries that are dead.

    Implements :class:`engine.store.run_ends.EndWitness` and :class:`engine.store.approvals.AskWitness`.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def cares(self, status: RunStatus) -> Interest:
        """See there."""
        return self._receiver.interest(f"stepbox.run.{_OUTCOMES[status]}")

    async def ended(self, run: EndedRun) -> None:
        """See there. Runs that are a part of another one, and code that is executed by itself, tell nothing."""
        if run.parent_id is not None or run.trigger == BY_ITSELF:
            return
        causes = caused_by(causes_in(run.trigger), flow=run.flow, run=run.id)
        event = run_ended(
            Origin(workspace=run.workspace, flow=run.flow, causes=causes),
            run=run.id,
            version=run.version,
            status=_OUTCOMES[run.status],
            started_at=run.started_at,
            ended_at=run.ended_at,
            trigger=_trigger_id(run.trigger),
            error=run.error,
        )
        await self._receiver.tell(run.workspace, event)

    def cares_for_questions(self) -> bool:
        """See :class:`engine.store.approvals.AskWitness`."""
        return self._receiver.interest("stepbox.approval.requested") != "none"

    async def asked(self, question: Approval, flow: str, trigger: Mapping[str, Json]) -> None:
        """See there."""
        # A question about a flow version stands in the chain for the run that it has not.
        causes = caused_by(causes_in(trigger), flow=flow, run=question.run_id or question.id)
        event = approval_requested(
            Origin(workspace=question.workspace, flow=flow, causes=causes),
            run=question.run_id,
            step=question.step_id or None,
            approval=question.id,
            message=question.message,
            at=question.requested_at,
            expires_at=question.expires_at,
        )
        await self._receiver.tell(question.workspace, event)

    async def died(self, delivery: Delivery, event: KeptEvent, error: StepError) -> None:
        """A delivery has become dead. It stands in the chain for the run that it didn't start."""
        causes = caused_by(event.causes, flow=delivery.flow, run=delivery.id)
        told = trigger_dead(
            Origin(workspace=delivery.workspace, flow=delivery.flow, causes=causes),
            trigger=delivery.trigger_id,
            event=event.id,
            attempts=delivery.attempts + 1,
            at=datetime.now(UTC),
            error=error,
        )
        await self._receiver.tell(delivery.workspace, told)


def causes_in(trigger: Mapping[str, Json]) -> tuple[str, ...]:
    """The runs that led to a run, of what it records of its start."""
    return tuple(trigger.get("causes", ()))


def _trigger_id(trigger: Mapping[str, Json]) -> str | None:
    started_by = trigger.get("trigger")
    found = started_by.get("id") if isinstance(started_by, Mapping) else None
    return found if isinstance(found, str) else None
