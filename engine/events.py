"""The events of one workspace: found by what a person has at hand, and redriven."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from engine.deliveries import Accepted, Delivery, DeliveryStatus
from engine.reach import ALL, Reach
from engine.records import Page
from engine.store import Store
from engine.store.errors import AmbiguousIdError, UnknownRecordError
from flows.errors import InvalidCallError

ID_LENGTH = 26
_BATCH = 500


class NotRedrivableError(InvalidCallError):
    """What is to be redriven isn't dead, or its flow is not in service."""

    code = "not_redrivable"


class Events:
    """What came in, and what became of it, as far as it concerns flows within reach."""

    def __init__(self, store: Store, workspace: str, reach: Reach = ALL) -> None:
        self._store = store
        self._workspace = workspace
        self._reach = reach

    async def list(
        self, *, flow: str | None, status: DeliveryStatus | None, limit: int, cursor: str | None
    ) -> Page[Accepted]:
        """The newest first: those with a delivery to that flow, and of that status."""
        page = await self._store.events.list(
            workspace=self._workspace, flow=flow, status=status, limit=limit, cursor=cursor, reach=self._reach
        )
        return Page(items=tuple(map(self._seen, page.items)), next=page.next)

    async def find(self, target: str) -> Accepted:
        """The event of an id, or of enough of its beginning; or the one of a delivery's id.

        Raises:
            UnknownRecordError: there is none.
            AmbiguousIdError: there are several; the message names some.
        """
        prefix = target.strip().upper()
        found: Sequence[str] = ()
        if 0 < len(prefix) <= ID_LENGTH:
            found = await self._store.events.find(prefix, workspace=self._workspace, reach=self._reach)
        if not found:
            raise UnknownRecordError(f"there is no event {target[:100]!r}", fix="see the ids: stepbox events list")
        if len(found) > 1:
            raise AmbiguousIdError("event", target, found)
        return self._seen(await self._store.events.get(found[0]))

    def _seen(self, accepted: Accepted) -> Accepted:
        """An event with those of its deliveries that are to flows within reach."""
        seen = tuple(each for each in accepted.deliveries if self._reach.covers(each.flow))
        return replace(accepted, deliveries=seen)

    async def redrive(self, target: str) -> Sequence[Delivery]:
        """Try the dead deliveries of an event once more, each with the version that its flow has now.

        Raises:
            NotRedrivableError: none is dead, or a flow is not in service.
            UnknownRecordError, AmbiguousIdError: as :meth:`find`.
        """
        accepted = await self.find(target)
        of_one = [each for each in accepted.deliveries if each.id == target.strip().upper()]
        dead = [each for each in of_one or accepted.deliveries if each.status is DeliveryStatus.DEAD]
        if not dead:
            said = ", ".join(f"{each.flow}/{each.trigger_id}: {each.status.value}" for each in accepted.deliveries)
            message = f"nothing of event {accepted.event.id} is dead: {said or 'it concerned no trigger'}"
            raise NotRedrivableError(message, fix=f"see it with: stepbox events show {accepted.event.id}")
        return await self._again(dead)

    async def redrive_flow(self, flow: str) -> Sequence[Delivery]:
        """Try all dead deliveries of a flow once more; see :meth:`redrive`."""
        dead: list[Delivery] = []
        cursor: str | None = None
        while True:
            page = await self._store.events.deliveries(
                workspace=self._workspace, flow=flow, status=DeliveryStatus.DEAD, limit=_BATCH, cursor=cursor
            )
            dead += page.items
            cursor = page.next
            if cursor is None:
                # The oldest first, as they came.
                return await self._again(dead[::-1]) if dead else ()

    async def _again(self, dead: Sequence[Delivery]) -> Sequence[Delivery]:
        versions = {}
        for flow in {each.flow for each in dead}:
            state = await self._store.flows.state(flow, workspace=self._workspace)
            version = await self._store.flows.current(flow, workspace=self._workspace)
            if state != "enabled" or version is None:
                raise NotRedrivableError(
                    f"the flow '{flow}' is not in service", fix=f"apply or enable it first: stepbox flows enable {flow}"
                )
            versions[flow] = version.id
        now = datetime.now(UTC)
        async with self._store.transaction():
            for each in dead:
                await self._store.events.redrive(each.id, flow_version_id=versions[each.flow], now=now)
        return dead
