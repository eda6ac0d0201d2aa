"""Questions about flow versions whose code is to reach the whole network, and what admins decided on them."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from engine.questions import Approval, Way
from engine.records import FlowVersion
from engine.store.approval_table import ApprovalTable
from engine.store.approvals import Approvals, approval_of, asked_of, question_values
from engine.store.clock import now_of
from engine.store.database import Database
from engine.store.errors import NotRevocableError
from engine.store.locks import hold_name
from engine.store.tables import NO_ITEM, FlowTable, FlowVersionTable
from flows.contracts import Asked, Question
from flows.values import Json

_TABLE: Final = ApprovalTable.__table__
_VERSION: Final = FlowVersionTable.__table__
_FLOW: Final = FlowTable.__table__
_OF_VERSION: Final = select(_TABLE).where(_TABLE.c.flow_version_id == bindparam("version"))
_STANDS: Final = _OF_VERSION.where(_TABLE.c.revoked_at.is_(None))
_INSERT: Final = insert(_TABLE)
_THIS: Final = _TABLE.c.id == bindparam("this")
_REVOKE: Final = update(_TABLE).where(
    _THIS, _TABLE.c.kind == "network", _TABLE.c.decided_at.is_not(None), _TABLE.c.revoked_at.is_(None)
)
_LAST_APPROVED: Final = (
    select(_TABLE.c.flow_version_id)
    .join_from(_TABLE, _VERSION, _TABLE.c.flow_version_id == _VERSION.c.id)
    .join(_FLOW, _VERSION.c.flow_id == _FLOW.c.id)
    .where(
        _FLOW.c.workspace == bindparam("of_workspace"),
        _FLOW.c.name == bindparam("of_flow"),
        _TABLE.c.decision == "approved",
        _TABLE.c.revoked_at.is_(None),
    )
    .order_by(_TABLE.c.decided_at.desc(), _TABLE.c.id.desc())
    .limit(1)
)


class FullNetwork:
    """What is decided on the versions of all flows. Every method is one transaction."""

    def __init__(self, database: Database, approvals: Approvals) -> None:
        self._database = database
        self._approvals = approvals

    async def state(self, version_id: str) -> Asked | None:
        """The question about a version as it stands; None where there is none, or its decision was taken back."""
        rows = await self._database.rows(_STANDS, {"version": version_id})
        return asked_of(rows[0]) if rows else None

    async def ask(
        self,
        version: FlowVersion,
        question: Question,
        *,
        requesters: Collection[str],
        flow: str | None = None,
        trigger: Mapping[str, Json] | None = None,
    ) -> Asked:
        """How the question about a version stands, which is put where there is none.

        Whoever has asked for the version before, or asks while it is undecided, is one of its requesters.
        """

        def put(connection: Connection) -> tuple[Row[Any], bool]:
            hold_name(connection, f"network/{version.id}")
            key = {"version": version.id}
            known = connection.execute(_STANDS, key).one_or_none()
            if known is not None:
                missing = [one for one in requesters if one not in (known.requesters or ())]
                if known.decided_at is None and missing:
                    more = update(_TABLE).where(_TABLE.c.id == known.id)
                    connection.execute(more.values(requesters=[*(known.requesters or ()), *missing]))
                return known, False
            earlier = [one for row in connection.execute(_OF_VERSION, key) for one in row.requesters or ()]
            connection.execute(
                _INSERT,
                {
                    **question_values(question, now_of(connection)),
                    "workspace": version.workspace,
                    "kind": "network",
                    "flow": version.flow,
                    "flow_version_id": version.id,
                    "step_id": "",
                    "item": NO_ITEM,
                    "subject": "",
                    "requesters": list(dict.fromkeys([*earlier, *requesters])),
                },
            )
            return connection.execute(_STANDS, key).one(), True

        async with self._database.transaction():
            row, new = await self._database.write(put)
            witness = self._approvals.witness
            if new and witness is not None and witness.cares_for_questions():
                await witness.asked(approval_of(row), flow or version.flow, trigger or {})
        return asked_of(row)

    async def decided(self, version: FlowVersion, question: Question, *, by: str, via: Way, comment: str) -> bool:
        """Have a version approved by whoever puts it into use; False where it stands approved or rejected already."""
        async with self._database.transaction():
            asked = await self.ask(version, question, requesters=())
            if asked.decision is not None:
                return False
            await self._approvals.decide(asked.id, "approved", by=by, via=via, comment=comment)
        return True

    async def revoke(self, approval_id: str, *, by: str) -> Approval:
        """Take a decision back: the version is asked for anew when it is next put into service or runs.

        Raises:
            NotRevocableError: it is no decision on a flow version, or was taken back.
        """

        def write(connection: Connection) -> Approval:
            changed = connection.execute(
                _REVOKE.values(revoked_at=now_of(connection), revoked_by=by), {"this": approval_id}
            )
            if changed.rowcount != 1:
                raise NotRevocableError(approval_id)
            return approval_of(connection.execute(select(_TABLE).where(_THIS), {"this": approval_id}).one())

        return await self._database.write(write)

    async def last_approved(self, workspace: str, flow: str) -> str | None:
        """The id of the version of a flow that was approved last, and is still; None where none is."""
        rows = await self._database.rows(_LAST_APPROVED, {"of_workspace": workspace, "of_flow": flow})
        return rows[0].flow_version_id if rows else None
