"""What runs ask of people."""

from collections.abc import Mapping

from engine.approvals import Approvals, decider, form_values
from engine.records import Approval, Decision, Page
from engine.use_cases.acting import Acting
from flows.values import Json


class ApprovalUseCases(Acting):
    """What runs ask of people."""

    async def approvals(
        self, *, run: str | None, undecided: bool, limit: int | None = None, cursor: str | None = None
    ) -> Page[Approval]:
        self._may("runs.read")
        approvals = Approvals(await self._parts.store(), self._workspace, self._reach)
        return await approvals.list(run=run, undecided=undecided, limit=limit, cursor=cursor)

    async def decide(
        self,
        target: str,
        decision: Decision,
        *,
        pairs: Mapping[str, str],
        comment: str | None,
        values: Mapping[str, Json] | None = None,
    ) -> tuple[Approval, str]:
        self._may("approvals.decide")
        approvals = Approvals(await self._parts.store(), self._workspace, self._reach)
        asked = await approvals.find(target)
        given = {**(values or {}), **form_values(asked, pairs)}
        decided = await approvals.decide(asked.id, decision, by=decider(self._principal), comment=comment, values=given)
        self._wake()
        return decided, await approvals.resumable(decided)
