"""Looking whether a chain of the audit is what it was: each entry, their order, their count, and its end."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select

from engine.audit import AuditEntry
from engine.audit_format import BEGINNING, digest_of, seal_of
from engine.audit_mark import Mark, Marks
from engine.audit_verdict import Checkpoint, Fault, Problem, Verdict
from engine.store.audit_key import AuditKeys
from engine.store.audit_rows import BROKEN, CUT, columns_of, entry_of
from engine.store.audit_table import AuditEntryTable, AuditHeadTable
from engine.store.database import Database

BATCH: Final = 500
"""Entries that are looked at in one transaction: 20 ms, and a megabyte."""

_ENTRY = AuditEntryTable.__table__
_HEAD = AuditHeadTable.__table__
_NEXT = (
    select(_ENTRY)
    .where(_ENTRY.c.workspace == bindparam("chain"), _ENTRY.c.number > bindparam("after"))
    .order_by(_ENTRY.c.number)
    .limit(BATCH)
)
_HEAD_OF = select(_HEAD).where(_HEAD.c.workspace == bindparam("chain"))


class _FoundError(Exception):
    def __init__(self, fault: Fault, number: int, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(fault=fault, number=number, message=message)


async def verify(
    database: Database, keys: AuditKeys, marks: Marks, workspace: str, *, since: Checkpoint | None = None
) -> Verdict:
    """Look at a chain, from its beginning or from a checkpoint on.

    Raises:
        RefusedError: others may read the secret key.
    """
    # These are read before the entries, since others are added meanwhile: there are as many at least.
    mark = marks.read(workspace)
    known = await database.read(keys.all)
    look = _Look(workspace, known, mark, since, await database.read(lambda connection: _head(connection, workspace)))
    try:
        while await database.read(look.on):
            pass
        look.end(await database.read(lambda connection: _head(connection, workspace)))
    except _FoundError as found:
        return look.verdict(found.problem)
    return look.verdict(None)


def _head(connection: Connection, workspace: str) -> Row[Any] | None:
    return connection.execute(_HEAD_OF, {"chain": workspace}).one_or_none()


class _Look:
    """How far a chain has been looked at."""

    def __init__(
        self,
        workspace: str,
        keys: Mapping[str, bytes],
        mark: Mark | None,
        since: Checkpoint | None,
        head: Row[Any] | None,
    ) -> None:
        self._workspace = workspace
        self._keys = keys
        self._mark = mark
        self._since = since
        self._head = head
        self.number = 0 if since is None else since.number - 1
        self._previous: str | None = BEGINNING if since is None else None
        self._first = 0
        self._cut_to: tuple[int, str] | None = None
        self._cuts: list[Mapping[str, Any]] = []
        self._entries = 0

    def on(self, connection: Connection) -> bool:
        """Look at the next entries; whether there may be more."""
        rows = connection.execute(_NEXT, {"chain": self._workspace, "after": self.number}).all()
        for row in rows:
            self._look_at(row)
        return len(rows) == BATCH

    def end(self, head: Row[Any] | None) -> None:
        """Look at where the chain ends. ``head`` is as it is after all entries were read."""
        if self._since is not None and self._entries == 0:
            message = f"the chain doesn't come as far as the checkpoint: entry {self._since.number} is missing"
            raise _FoundError("cut", self._since.number, message)
        if self._cut_to is not None:
            self._look_at_cut(*self._cut_to)
        if head is None:
            if self._entries or self._mark is not None:
                raise _FoundError("head", self.number, "the head of the chain is missing from the database")
            return
        self._look_at_head(head)
        if self._head is not None and self._head.number > self.number:
            missing = _missing(self.number + 1, self._head.number)
            raise _FoundError("cut", self.number + 1, f"the end is cut off: {missing}")
        if head.number < self.number:
            message = f"the head of the chain was set back to entry {head.number}, of {self.number}"
            raise _FoundError("head", head.number, message)
        if self._mark is not None and self._mark.number > self.number:
            message = f"this machine had added entries up to {self._mark.number}, and the last one is {self.number}"
            message = f"the end is cut off, or an old database was restored: {message}"
            raise _FoundError("cut", self.number + 1, message)

    def _look_at_head(self, head: Row[Any]) -> None:
        if not self._keys:
            raise _FoundError("key", head.number, "none of the audit's keys can be opened by the secret key here")
        if not any(head.seal == seal_of(head.hash, key) for key in self._keys.values()):
            raise _FoundError("head", head.number, "the head of the chain was changed: it isn't sealed by a key of it")

    def verdict(self, problem: Problem | None) -> Verdict:
        checkpoint = None
        if problem is None and self._entries:
            checkpoint = Checkpoint(workspace=self._workspace, number=self.number, hash=str(self._previous))
        notes = []
        if problem is None and self._mark is None and self._entries:
            notes.append("this home has no mark of how far the chain had come: an end that was cut off would not show")
        return Verdict(
            workspace=self._workspace,
            entries=self._entries,
            first=self._first,
            last=self.number if self._entries else 0,
            checkpoint=checkpoint,
            problem=problem,
            notes=tuple(notes),
        )

    def _look_at(self, row: Row[Any]) -> None:
        number = row.number
        self._look_at_number(number)
        digest = digest_of(row.entry.encode("utf-8", "surrogatepass"))
        if digest != row.hash:
            raise _FoundError("changed", number, f"entry {number} was changed: its text isn't what its hash is of")
        try:
            entry = entry_of(row)
        except (ValueError, KeyError, TypeError):
            raise _FoundError("added", number, f"entry {number} is none that Stepbox wrote") from None
        self._look_at_seal(row, entry)
        if entry.number != number or entry.act.workspace != self._workspace:
            message = f"entry {number} is out of order: it was entry {entry.number} of {entry.act.workspace!r}"
            raise _FoundError("order", number, message)
        self._look_at_columns(row, entry)
        if self._previous is not None and entry.previous != self._previous:
            message = f"entry {number} doesn't follow entry {number - 1}: one of them is of another chain"
            raise _FoundError("order", number, message)
        if self._entries == 0 and self._cut_to is not None:
            self._cut_to = (number - 1, entry.previous)
        self._look_at_ends(row)
        self._look_at_act(entry)
        self.number, self._previous = number, row.hash
        self._entries += 1

    def _look_at_act(self, entry: AuditEntry) -> None:
        if entry.act.action == BROKEN:
            problem = entry.act.details.get("problem")
            message = (
                f"entry {entry.number} tells of tampering that was found at {entry.at:%Y-%m-%d %H:%M:%S} UTC: {problem}"
            )
            raise _FoundError("broken", entry.number, message)
        if entry.act.action == CUT:
            self._cuts.append(entry.act.details)

    def _look_at_ends(self, row: Row[Any]) -> None:
        """Compare with what is known of how far the chain had come."""
        number = row.number
        if self._since is not None and self._entries == 0 and row.hash != self._since.hash:
            message = f"entry {number} isn't the one that the checkpoint was of: the chain was rewritten"
            raise _FoundError("checkpoint", number, message)
        if self._mark is not None and number == self._mark.number and row.hash != self._mark.hash:
            message = f"entry {number} isn't the one that this machine had added: an old database was restored"
            raise _FoundError("changed", number, message)
        if self._head is not None and number == self._head.number and row.hash != self._head.hash:
            raise _FoundError("head", number, f"the head of the chain names another hash than entry {number} has")

    def _look_at_number(self, number: int) -> None:
        if self._entries:
            if number != self.number + 1:
                raise _FoundError("missing", self.number + 1, _missing(self.number + 1, number - 1))
            return
        self._first = number
        if self._since is not None:
            if number != self._since.number:
                raise _FoundError("missing", self._since.number, _missing(self._since.number, number - 1))
        elif number != 1:
            # Whether they were cut because they were old, a later entry says.
            self._cut_to, self._previous = (number - 1, ""), None

    def _look_at_seal(self, row: Row[Any], entry: AuditEntry) -> None:
        key = self._keys.get(entry.key)
        if key is None:
            message = f"the key {entry.key} of entry {row.number} can't be opened by the secret key here"
            raise _FoundError("key", row.number, message)
        if seal_of(row.hash, key) != row.seal:
            message = f"entry {row.number} was changed or added by somebody without the key: its seal is wrong"
            raise _FoundError("added", row.number, message)

    def _look_at_columns(self, row: Row[Any], entry: AuditEntry) -> None:
        for name, value in columns_of(entry).items():
            if getattr(row, name) != value:
                message = f"entry {row.number} was changed: its column {name} isn't what its text says"
                raise _FoundError("changed", row.number, message)

    def _look_at_cut(self, through: int, named: str) -> None:
        for cut in self._cuts:
            if cut["through"] > through or (cut["through"] == through and cut["hash"] == named):
                return
        raise _FoundError("missing", 1, _missing(1, through))


def _missing(first: int, last: int) -> str:
    return f"entry {first} is missing" if first >= last else f"entries {first} to {last} are missing"
