"""What runs ask of people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from engine.questions import Approval, Decision
from engine.records import Page
from engine.service.values import ApprovalDetail
from flows.values import Json

if TYPE_CHECKING:
    from engine.links import SignedLink


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
    ) -> tuple[Approval, str | None]:
        """Decide a question, by its id or its run's; gives the id of the run to resume, too.

        That is None for a question about a flow version, for which any number of runs may wait.

        ``values`` are those of its form, ``pairs`` the same as they are written on a command line. Raises
        InvalidCallError where there is no such question or not only one, where it is decided, and where they don't fit,
        and ForbiddenError where it is for others (:mod:`engine.deciders`).
        """

    async def approval(self, target: str) -> ApprovalDetail:
        """A question, by its id or its run's, as :meth:`decide` finds it."""

    async def revoke_approval(self, target: str) -> Approval:
        """Take back a decision on ``network: full`` of a flow version, which is then asked for anew.

        Raises:
            NotRevocableError: it is another question, undecided, or was taken back.
        """

    async def approval_link(self, target: str, principal: str, *, lasts: float | None = None) -> "SignedLink":
        """Make a link by which a principal decides a question; it holds for so many seconds at most.

        Raises:
            NoPublicUrlError: it isn't known under which address the service is reached.
            InvalidCallError: the question is decided.
            ForbiddenError: the principal may not decide it.
        """
