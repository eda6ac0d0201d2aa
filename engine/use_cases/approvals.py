"""What runs ask of people."""

from collections.abc import Mapping, Sequence

from engine.approvals import Approvals, decider, form_values
from engine.records import Approval, Decision
from engine.use_cases.acting import Acting
from flows.values import Json


class ApprovalUseCases(Acting):
    """What runs ask of people."""

    async def approvals(self, *, run: str | None, undecided: bool) -> Sequence[Approval]:
        self._may("runs.read")
        return await Approvals(await self._parts.store(), self._workspace).list(run=run, undecided=undecided)

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
        approvals = Approvals(await self._parts.store(), self._workspace)
        asked = await approvals.find(target)
        given = {**(values or {}), **form_values(asked, pairs)}
        decided = await approvals.decide(asked.id, decision, by=decider(self._principal), comment=comment, values=given)
        self._wake()
        return decided, await approvals.resumable(decided)
