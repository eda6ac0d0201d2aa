"""What runs ask of people."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from engine.records import Approval, Decision
from flows.values import Json


class ApprovalUseCases(Protocol):
    """What runs ask of people."""

    async def approvals(self, *, run: str | None, undecided: bool) -> Sequence[Approval]:
        """What runs wait for people to decide; of a run, also its subflows. See :mod:`engine.approvals`."""

    async def decide(
        self,
        target: str,
        decision: Decision,
        *,
        pairs: Mapping[str, str],
        comment: str | None,
        values: Mapping[str, Json] | None = None,
    ) -> tuple[Approval, str]:
        """Decide a question, by its id or its run's; gives the id of the run to resume, too.

        ``values`` are those of its form, ``pairs`` the same as they are written on a command line. Raises
        InvalidCallError where there is no such question or not only one, where it is decided, and where they don't fit.
        """
