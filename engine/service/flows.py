"""Flows: read, checked, put into service and taken out of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from engine.records import FlowDetail, FlowSummary, FlowVersion, Page
from engine.service.values import AppliedFlow, FlowText, Precondition
from flows.definition import Definition

if TYPE_CHECKING:
    from engine.upcoming import Upcoming


class FlowUseCases(Protocol):
    """Flows: read, checked, put into service and taken out of it."""

    def load(self, flow: FlowText) -> Definition:
        """Read a definition without keeping it. Raises :class:`flows.errors.InvalidFlowError`."""

    async def definition(self, flow: str) -> Definition:
        """The current version of a known flow. Raises :class:`engine.runs.UnknownFlowError` where there is none."""

    async def apply(
        self, flows: Sequence[FlowText], *, dry_run: bool = False, precondition: Precondition | None = None
    ) -> Sequence[AppliedFlow]:
        """Put flows into service, all of them or none, with the subflows beside them. Unchanged ones keep theirs.

        ``precondition`` is for a call with one flow. With ``dry_run`` nothing is kept.

        Raises:
            InvalidFlowError: one or more are not valid; the problems of all of them.
            UnknownFlowError: one starts a flow that is neither among them nor known.
            PreconditionFailedError: the precondition doesn't hold.
        """

    async def flows(self, *, limit: int | None = None, cursor: str | None = None) -> Page[FlowSummary]:
        """The flows that the installation knows, by name."""

    async def flow(self, name: str) -> FlowDetail:
        """A flow with its current version. Raises :class:`engine.runs.UnknownFlowError` where there is none."""

    async def flow_versions(self, name: str, *, limit: int = 50, cursor: str | None = None) -> Page[FlowVersion]:
        """The versions of a flow, the newest first."""

    async def flow_version(self, name: str, number: int) -> FlowVersion:
        """A version of a flow, by its number."""

    async def upcoming(self, name: str, *, count: int) -> Sequence["Upcoming"]:
        """When the schedules of a known flow come due next, the first one first, whether or not it is enabled."""

    async def enable_flow(self, name: str, *, enabled: bool) -> FlowDetail:
        """Let an applied flow start, or not."""

    async def delete_flow(self, name: str) -> None:
        """Forget a flow. Its runs stay, with the versions that they ran."""
