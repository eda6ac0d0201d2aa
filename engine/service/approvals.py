"""What runs ask of people."""

from collections.abc import Mapping
from typing import Protocol

from engine.records import Approval, Decision, Page
from flows.values import Json


class ApprovalUseCases(Protocol):
    """What runs ask of people."""

    async def approvals(
        self, *, run: str | None, undecided: bool, limit: int | None = None, cursor: str | None = None
    ) -> Page[Approval]:
        """What runs wait for people to decide, the newest first; of a run, also its subflows.

        All of it without a limit. See :mod:`engine.approvals`.
        """

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
