"""The audit: for each workspace a chain of entries that is only ever added to.

An entry is chained right before the transaction that it belongs to commits: so there is an entry for what has happened
and none for what has not, and whoever adds to the same chain waits no longer than that commit takes.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Row, bindparam, delete, func, insert, select, update

from engine.audit import STEPBOX, Act, Actor, AuditEntry, Outcome, Target
from engine.audit_format import BEGINNING, compose, seal_of, written
from engine.audit_mark import Mark, Marks
from engine.audit_verdict import Checkpoint, Verdict
from engine.records import DEFAULT_WORKSPACE, Page
from engine.secret_key import KeySource
from engine.store.audit_key import AuditKeys
from engine.store.audit_record import equip, record
from engine.store.audit_rows import BROKEN, CUT, readable, row_of
from engine.store.audit_table import AuditEntryTable, AuditHeadTable
from engine.store.audit_verification import verify
from engine.store.database import Database, after_commit, upsert_into
from flows.values import Json

_log = logging.getLogger(__name__)

BATCH: Final = 1000
"""Entries that one transaction removes or one read of an export takes."""

_ENTRY = AuditEntryTable.__table__
_HEAD = AuditHeadTable.__table__
_OF_CHAIN: BindParameter[str] = bindparam("chain")
_LAST_NUMBER = select(func.max(_ENTRY.c.number)).where(_ENTRY.c.workspace == _OF_CHAIN).scalar_subquery()
_LOCK = (
    select(_HEAD.c.number, _HEAD.c.hash, _HEAD.c.seal, _LAST_NUMBER.label("last"))
    .where(_HEAD.c.workspace == _OF_CHAIN)
    .with_for_update(of=_HEAD)
)
_LAST = select(_ENTRY).where(_ENTRY.c.workspace == _OF_CHAIN).order_by(_ENTRY.c.number.desc()).limit(1)
_INSERT = insert(_ENTRY)
_MOVE = (
    update(_HEAD)
    .where(_HEAD.c.workspace == _OF_CHAIN)
    .values(number=bindparam("to"), hash=bindparam("of_last"), seal=bindparam("sealed"))
)
_AFTER = (
    select(_ENTRY)
    .where(_ENTRY.c.workspace == _OF_CHAIN, _ENTRY.c.number > bindparam("after"))
    .order_by(_ENTRY.c.number)
    .limit(bindparam("most"))
)


class Audit:
    """The chains of all workspaces."""

    def __init__(self, database: Database, source: KeySource, marks: Marks) -> None:
        self._database = database
        self.keys = AuditKeys(source)
        self.marks = marks
        equip(database, self._chain)

    async def append(
        self,
        *,
        action: str,
        target: Target | None = None,
        run: str | None = None,
        outcome: Outcome = "succeeded",
        details: Mapping[str, Json] | None = None,
        actor: Actor | None = None,
        workspace: str = DEFAULT_WORKSPACE,
    ) -> None:
        """Record an act with this task's transaction, or by itself; see :func:`engine.store.audit_record.record`.

        Raises:
            SecretKeyError: the key that seals entries can't be had; the transaction is rolled back.
            RefusedError: others may read it; the same.
        """
        await self._database.write(
            lambda connection: record(
                connection,
                workspace=workspace,
                action=action,
                target=target,
                run=run,
                outcome=outcome,
                details=details,
                actor=actor,
            )
        )

    async def list(
        self,
        *,
        workspace: str,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        run: str | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> Page[AuditEntry]:
        """The newest entries first. ``before`` is the number of the last one of the page before.

        ``action`` is one, or with a dot at its end the beginning of several; ``run`` the beginning of a run's id.
        """
        query = select(_ENTRY).where(_ENTRY.c.workspace == workspace)
        if actor is not None:
            query = query.where(_ENTRY.c.actor == actor)
        if action is not None:
            begins = action.endswith(".")
            query = query.where(
                _ENTRY.c.action.startswith(action, autoescape=True) if begins else _ENTRY.c.action == action
            )
        if since is not None:
            query = query.where(_ENTRY.c.at >= since)
        if run is not None:
            query = query.where(_ENTRY.c.run_id.startswith(run.upper(), autoescape=True))
        if before is not None:
            query = query.where(_ENTRY.c.number < before)
        rows = await self._database.rows(query.order_by(_ENTRY.c.number.desc()).limit(limit + 1))
        items = tuple(readable(row) for row in rows[:limit])
        return Page(items=items, next=str(items[-1].number) if len(rows) > limit else None)

    async def after(
        self, number: int, *, workspace: str, since: datetime | None = None, limit: int = BATCH
    ) -> Sequence[AuditEntry]:
        """The entries after a number, in their order; with ``since`` only those that are no older."""
        query = _AFTER if since is None else _AFTER.where(_ENTRY.c.at >= since)
        rows = await self._database.rows(query, {"chain": workspace, "after": number, "most": limit})
        return [readable(row) for row in rows]

    async def chains(self) -> tuple[str, ...]:
        """The workspaces that have a chain, or had one, as far as this machine knows."""
        query = select(_HEAD.c.workspace).union(select(_ENTRY.c.workspace))
        rows = await self._database.read(lambda connection: connection.scalars(query).all())
        return tuple(sorted({*rows, *self.marks.names()}))

    async def verify(self, workspace: str, *, since: Checkpoint | None = None) -> Verdict:
        """Look at a chain, from its beginning or from a checkpoint on. Raises RefusedError: others may read the key."""
        return await verify(self._database, self.keys, self.marks, workspace, since=since)

    async def rekey(self, *, workspace: str) -> None:
        """Seal by a new key from now on, whether or not the old one can be had."""

        def change(connection: Connection) -> None:
            key_id, _key = self.keys.add(connection)
            record(connection, workspace=workspace, action="audit.rekey", details={"key": key_id})

        await self._database.write(change)

    async def cut(self, workspace: str, *, before: datetime) -> int:
        """Remove the entries older than that, but never the last one; how many. An entry says up to which.

        Whatever else is checked of a chain is checked of one that begins after such an entry's number.
        """
        through = await self._database.read(lambda connection: _last_old(connection, workspace, before))
        if through is not None:
            await self._database.write(lambda connection: self._mark_cut(connection, workspace, through, before))
        removed = 0
        if through is not None:
            some = (
                select(_ENTRY.c.number)
                .where(_ENTRY.c.workspace == workspace, _ENTRY.c.number <= through)
                .order_by(_ENTRY.c.number)
                .limit(BATCH)
            )
            statement = delete(_ENTRY).where(_ENTRY.c.workspace == workspace, _ENTRY.c.number.in_(some))
            while count := await self._database.write(lambda connection: connection.execute(statement).rowcount):
                removed += count
        return removed

    def _mark_cut(self, connection: Connection, workspace: str, through: int, before: datetime) -> None:
        digest = connection.scalar(
            select(_ENTRY.c.hash).where(_ENTRY.c.workspace == workspace, _ENTRY.c.number == through)
        )
        if digest is None:
            return
        connection.execute(update(_HEAD).where(_HEAD.c.workspace == workspace).values(cut=through))
        details = {"through": through, "hash": digest, "before": written(before)}
        record(connection, workspace=workspace, action=CUT, details=details)

    def _chain(self, connection: Connection, act: Act) -> None:
        """Add an act to its chain, whose head stays locked until the commit."""
        key_id, key = self.keys.current(connection)
        chain = act.workspace
        number, previous, broken = self._end(connection, chain, key)
        acts = [act]
        if broken is not None:
            acts.insert(0, Act(workspace=chain, actor=STEPBOX, action=BROKEN, outcome="failed", details=broken))
        now = datetime.now(UTC)
        rows = []
        for each in acts:
            entry = compose(each, number=number + 1, at=now, previous=previous, key=key, key_id=key_id)
            rows.append(row_of(entry))
            number, previous = entry.number, entry.hash
        connection.execute(_INSERT, rows)
        moved = {"to": number, "of_last": previous, "sealed": rows[-1]["seal"], "chain": chain}
        connection.execute(_MOVE, moved)
        mark = Mark(number=number, hash=previous)
        after_commit(connection, lambda: self.marks.move(chain, mark, back=broken is not None))

    def _end(self, connection: Connection, chain: str, key: bytes) -> tuple[int, str, dict[str, Json] | None]:
        """The number and the hash of the last entry; and what is wrong, where the database was set back or changed."""
        head = connection.execute(_LOCK, {"chain": chain}).one_or_none()
        if head is None:
            new = upsert_into(connection, AuditHeadTable).values(
                workspace=chain, number=0, hash=BEGINNING, seal=seal_of(BEGINNING, key), cut=0
            )
            connection.execute(new.on_conflict_do_nothing())
            head = connection.execute(_LOCK, {"chain": chain}).one()
        mark = self.marks.read(chain)
        wrong = None
        if head.seal != seal_of(head.hash, key) and not self._by_another_key(connection, head):
            wrong = "the head was changed"
        elif head.last is not None and head.last > head.number:
            wrong = "there are entries after the head"
        elif head.last is None and head.number > 0:
            wrong = "all entries are gone"
        elif mark is not None and (
            mark.number > head.number or (mark.number == head.number and mark.hash != head.hash)
        ):
            wrong = "the end was cut off, or an old database was restored"
        if wrong is None:
            return head.number, head.hash, None
        last = connection.execute(_LAST, {"chain": chain}).one_or_none()
        number, previous = (0, BEGINNING) if last is None else (last.number, last.hash)
        _log.error("the audit of workspace %s was tampered with: %s", chain, wrong)
        known: dict[str, Json] = {} if mark is None else {"mark": mark.number, "mark_hash": mark.hash}
        return number, previous, {"problem": wrong, "head": head.number, "last": number, **known}

    def _by_another_key(self, connection: Connection, head: Row[*tuple[Any, ...]]) -> bool:
        """Whether the head was sealed by a key before this one."""
        known = self.keys.all(connection).values()
        return any(head.seal == seal_of(head.hash, key) for key in known)


def _last_old(connection: Connection, workspace: str, before: datetime) -> int | None:
    """The number of the last of the entries at a chain's beginning that are all older; never that of its last one."""
    own = _ENTRY.c.workspace == workspace
    # Times go back where a clock is set: what is kept begins with the first entry that is not old.
    kept = connection.scalar(select(func.min(_ENTRY.c.number)).where(own, _ENTRY.c.at >= before))
    first, last = connection.execute(select(func.min(_ENTRY.c.number), func.max(_ENTRY.c.number)).where(own)).one()
    through = (last if kept is None else kept) - 1 if last is not None else 0
    return through if first is not None and through >= first else None
