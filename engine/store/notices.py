"""Notices of questions to people: an outbox, which a service sends from.

A question is put with nobody told (``announced`` is false), in its own transaction; who is to be told is settled once a
service sees it. A notice is claimed for a while before it is sent, and ended after: where the service dies in between,
it is sent again.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from ulid import ULID

from engine.questions import Approval, Notice
from engine.store.approval_table import ApprovalTable
from engine.store.approvals import approval_of
from engine.store.clock import now_of
from engine.store.database import Database
from engine.store.notice_table import NoticeTable
from engine.store.types import UtcDateTime

_TABLE: Final = NoticeTable.__table__
_APPROVAL: Final = ApprovalTable.__table__
_THIS: Final = _TABLE.c.id == bindparam("this")
_UNANNOUNCED: Final = select(_APPROVAL).where(~_APPROVAL.c.announced).order_by(_APPROVAL.c.id)
_ANNOUNCE: Final = (
    update(_APPROVAL).where(_APPROVAL.c.id == bindparam("this"), ~_APPROVAL.c.announced).values(announced=True)
)
_INSERT: Final = insert(_TABLE)
_DUE: Final = select(_TABLE).where(_TABLE.c.due_at <= bindparam("now", type_=UtcDateTime())).order_by(_TABLE.c.due_at)
_CLAIM: Final = update(_TABLE).where(_THIS, _TABLE.c.due_at == bindparam("seen", type_=UtcDateTime()))
_OF: Final = select(_TABLE).where(_TABLE.c.approval_id == bindparam("about")).order_by(_TABLE.c.target)


class Notices:
    """The notices of all questions. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def unannounced(self, *, limit: int = 100) -> Sequence[Approval]:
        """Questions of which it isn't settled yet who is told, the oldest first."""
        rows = await self._database.rows(_UNANNOUNCED.limit(limit))
        return [approval_of(row) for row in rows]

    async def announce(self, approval_id: str, targets: Sequence[str]) -> None:
        """Settle who is told of a question: a notice to each, due now. Nothing where another service was faster."""

        def write(connection: Connection) -> None:
            if connection.execute(_ANNOUNCE, {"this": approval_id}).rowcount != 1:
                return
            now = now_of(connection)
            for target in targets:
                values = {"id": str(ULID()), "approval_id": approval_id, "target": target, "attempts": 0}
                connection.execute(_INSERT, {**values, "created_at": now, "due_at": now})

        await self._database.write(write)

    async def claim(self, *, seconds: float, limit: int) -> Sequence[Notice]:
        """Notices that are due, which are nobody else's to send for so many seconds."""

        def write(connection: Connection) -> list[Notice]:
            now = now_of(connection)
            claimed = []
            for row in connection.execute(_DUE.limit(limit), {"now": now}).all():
                until = _CLAIM.values(due_at=now + timedelta(seconds=seconds))
                if connection.execute(until, {"this": row.id, "seen": row.due_at}).rowcount == 1:
                    claimed.append(_notice(row))
            return claimed

        return await self._database.write(write)

    async def sent(self, notice_id: str) -> None:
        """A notice has arrived."""
        await self._end(notice_id, lambda now: {"sent_at": now, "due_at": None, "error": None}, tries=1)

    async def drop(self, notice_id: str) -> None:
        """A notice is not wanted any more: its question is decided."""
        await self._end(notice_id, lambda _now: {"dropped": True, "due_at": None}, tries=0)

    async def failed(self, notice_id: str, error: str, *, again: float | None) -> None:
        """A notice has not arrived; it is tried again in so many seconds, None: never."""

        def values(now: datetime) -> dict[str, Any]:
            return {"error": error, "due_at": None if again is None else now + timedelta(seconds=again)}

        await self._end(notice_id, values, tries=1)

    async def _end(self, notice_id: str, values: Any, *, tries: int) -> None:
        def write(connection: Connection) -> None:
            ended = update(_TABLE).where(_THIS).values(**values(now_of(connection)), attempts=_TABLE.c.attempts + tries)
            connection.execute(ended, {"this": notice_id})

        await self._database.write(write)

    async def of(self, approval_id: str) -> Sequence[Notice]:
        """The notices of a question, by address."""
        return [_notice(row) for row in await self._database.rows(_OF, {"about": approval_id})]


def _notice(row: Row[Any]) -> Notice:
    return Notice(**row._mapping)  # noqa: SLF001 - its public name for attributes that could clash with columns
