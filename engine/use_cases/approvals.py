"""What runs ask of people."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from engine.approvals import Approvals, decider, form_values
from engine.deciders import require_decider
from engine.policy import ForbiddenError
from engine.principal import Principal
from engine.questions import Approval, Decision
from engine.records import Page
from engine.service import ApprovalDetail
from engine.use_cases.acting import Acting
from flows.errors import InvalidCallError
from flows.suggestions import instead
from flows.values import Json

if TYPE_CHECKING:
    from engine.links import SignedLink


class ApprovalUseCases(Acting):
    """What runs ask of people."""

    async def approvals(
        self, *, run: str | None, undecided: bool, limit: int | None = None, cursor: str | None = None
    ) -> Page[Approval]:
        self._may("runs.read")
        approvals = Approvals(await self._parts.store(), self._workspace, self._reach)
        return await approvals.list(run=run, undecided=undecided, limit=limit, cursor=cursor)

    async def approval(self, target: str) -> ApprovalDetail:
        self._may("runs.read")
        store = await self._parts.store()
        asked = await Approvals(store, self._workspace, self._reach).find(target)
        refusal: str | None = None
        try:
            await self._require_decider(asked)
        except ForbiddenError as forbidden:
            refusal = forbidden.message
        return ApprovalDetail(approval=asked, notices=await store.notices.of(asked.id), refusal=refusal)

    async def decide(
        self,
        target: str,
        decision: Decision,
        *,
        pairs: Mapping[str, str],
        comment: str | None,
        values: Mapping[str, Json] | None = None,
    ) -> tuple[Approval, str | None]:
        self._may("approvals.decide")
        approvals = Approvals(await self._parts.store(), self._workspace, self._reach)
        asked = await approvals.find(target)
        await self._require_decider(asked)
        given = {**(values or {}), **form_values(asked, pairs)}
        decided = await approvals.decide(asked, decision, by=self._principal, comment=comment, values=given)
        self._wake()
        return decided, await approvals.resumable(decided)

    async def revoke_approval(self, target: str) -> Approval:
        self._may("network.open")
        store = await self._parts.store()
        asked = await Approvals(store, self._workspace, self._reach).find(target)
        async with store.transaction():
            revoked = await store.full_network.revoke(asked.id, by=decider(self._principal))
            await self._record(store, "approval.revoke", "approval", asked.id, {"flow": asked.flow})
        return revoked

    async def approval_link(self, target: str, principal: str, *, lasts: float | None = None) -> "SignedLink":
        self._may("approvals.link")
        store = await self._parts.store()
        asked = await Approvals(store, self._workspace, self._reach).find(target)
        if asked.decision is not None:
            raise InvalidCallError(
                f"approval {asked.id} is decided: {asked.decision}", fix="see: stepbox approvals list"
            )
        roles = await store.principals.roles(self._workspace, flow=asked.flow)
        if principal not in roles:
            fix = instead(principal, sorted(roles), otherwise="make the principal first")
            raise InvalidCallError(
                f"'{principal[:80]}' is no principal of this workspace who may see the flow '{asked.flow}'", fix=fix
            )
        holder = Principal(name=principal, workspace=self._workspace, role=roles[principal], kind="link")
        require_decider(asked, holder, own=await self._parts.approval_rules.own_approvals(self._workspace))
        until = None if lasts is None else datetime.now(UTC) + timedelta(seconds=lasts)
        link = await self._parts.approval_rules.link_to(asked, principal, until=until)
        await self._record(store, "approval.link", "approval", asked.id, {"principal": principal})
        return link

    async def _require_decider(self, asked: Approval) -> None:
        require_decider(asked, self._principal, own=await self._parts.approval_rules.own_approvals(self._workspace))
