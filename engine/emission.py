"""What steps tell of, as CloudEvents that are kept for the triggers of other flows."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from engine.intake.active_flows import EnabledFlows
from engine.intake.own_events import causes_in
from engine.intake.receiver import Receiver
from engine.intake.subscriptions import Subscriptions
from engine.language import Language
from engine.store import Store
from engine.waiting import EventWaits
from flows.values import Json
from steps.tools.contract import InvalidArgumentsError, TooLargeError
from steps.tools.events import EmittedEvent, KeptEmission
from triggers.event.causes import ATTRIBUTE, OWN_TYPES, caused_by, write_causes
from triggers.event.cloudevents import InvalidEventError, structured_event
from triggers.event.own import Origin

ORIGIN: Final = "emit"
"""The origin of what steps tell of."""


class Emission:
    """Implements :class:`steps.tools.events.EventOutlet`.

    ``receiver`` gives what takes events in this process. Where there is none, since this is no service, an event is
    kept with its deliveries all the same, and the next service delivers them.
    """

    def __init__(self, *, store: Store, language: Language, receiver: Callable[[], Receiver | None]) -> None:
        self._store = store
        self._serving = receiver
        self._subscriptions = Subscriptions(EnabledFlows(store), language)
        self._keeping = Receiver(
            store=store, subscriptions=self._subscriptions, deliverer=_NobodyHere(), secrets=_no_secrets
        )
        self._keeping.witnesses.append(EventWaits(store, lambda: None))

    async def emit(self, run_id: str, event: EmittedEvent) -> KeptEmission:
        """See there."""
        _check(event)
        run, first = await self._store.runs.summary(run_id), await self._store.runs.root(run_id)
        causes = caused_by(causes_in(first.trigger), flow=first.flow, run=first.id)
        source = Origin(workspace=run.workspace, flow=run.flow, causes=causes).source
        now = datetime.now(UTC)
        document: dict[str, Json] = {
            "specversion": "1.0",
            "id": event.id,
            "source": source,
            "type": event.type,
            "subject": event.subject,
            "time": now.isoformat(),
            "datacontenttype": "application/json",
            "data": event.data,
            ATTRIBUTE: write_causes(causes),
        }
        try:
            made = structured_event(document, now)
        except InvalidEventError as invalid:
            large = invalid.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            raise (TooLargeError if large else InvalidArgumentsError)(invalid.message, fix=invalid.fix) from None
        receiver = await self._receiver()
        (accepted,) = await receiver.events(run.workspace, [made], origin=ORIGIN)
        return KeptEmission(
            event=accepted.event.id,
            source=source,
            triggers=len(accepted.deliveries),
            duplicate=accepted.duplicate,
        )

    async def _receiver(self) -> Receiver:
        serving = self._serving()
        if serving is not None:
            return serving
        await self._subscriptions.refresh()
        return self._keeping


class _NobodyHere:
    """Implements :class:`engine.intake.schedules.Woken`: a service finds by itself what is to be delivered."""

    def wake(self) -> None:
        """See there."""


async def _no_secrets(_workspace: str, _name: str) -> Sequence[str]:
    return ()


def _check(event: EmittedEvent) -> None:
    """Refuse what could be taken for an event of Stepbox's own, or what no pattern fits.

    Raises:
        InvalidArgumentsError: it is one of these.
    """
    if event.type.lower().startswith(OWN_TYPES):
        raise InvalidArgumentsError(
            f"{event.type}: only Stepbox itself tells of `{OWN_TYPES}…`", fix="give it another type: order.created"
        )
    if any(character.isspace() for character in event.type):
        raise InvalidArgumentsError("a type has no spaces", fix="write one such as order.created")
