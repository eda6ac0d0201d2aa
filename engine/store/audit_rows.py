"""Entries of the audit as rows."""

from typing import Any, Final

from sqlalchemy import Row

from engine.audit import AuditEntry
from engine.audit_format import read
from engine.store.errors import StoreError


class AuditUnreadableError(StoreError):
    """An entry of the audit is none that Stepbox wrote."""

    code = "audit_unreadable"


BROKEN: Final = "audit.broken"
"""The action of the entry which says that the chain, as it was found, was not what it had been."""
CUT: Final = "audit.cut"
"""The action of the entry which says up to which number entries were removed, since they were old."""


def entry_of(row: Row[Any]) -> AuditEntry:
    """A row as its entry. Raises ValueError, KeyError or TypeError where its text is none."""
    return read(row.entry, digest=row.hash, seal=row.seal)


def readable(row: Row[Any]) -> AuditEntry:
    """A row as its entry.

    Raises:
        AuditUnreadableError: it was changed so that it is none any more.
    """
    try:
        return entry_of(row)
    except (ValueError, KeyError, TypeError):
        raise AuditUnreadableError(
            f"entry {row.number} of the audit can't be read: it was changed", fix="see stepbox audit verify"
        ) from None


def columns_of(entry: AuditEntry) -> dict[str, Any]:
    """What a row has besides an entry's text, for finding it."""
    act = entry.act
    return {
        "workspace": act.workspace,
        "number": entry.number,
        "at": entry.at,
        "actor": act.actor.name,
        "action": act.action,
        "outcome": act.outcome,
        "run_id": act.run,
    }


def row_of(entry: AuditEntry) -> dict[str, Any]:
    """All that a row has."""
    return {**columns_of(entry), "entry": entry.text, "hash": entry.hash, "seal": entry.seal}
