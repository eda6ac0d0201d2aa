"""The keys that entries of the audit are sealed by, encrypted in the database by the secret key, which isn't there.

So whoever can write to the database makes no entry, and another secret key (a rotation) makes no entry invalid.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, insert, select, update

from engine.audit_format import key_id_of
from engine.records import SealedSecret
from engine.secret_key import KeySource, SealBrokenError, SecretKey, SecretKeyError
from engine.store.audit_table import AuditHeadTable, AuditKeyTable
from engine.store.database import after_commit
from engine.store.locks import hold_name

_TABLE: Final = AuditKeyTable.__table__
_ALL: Final = select(_TABLE).order_by(_TABLE.c.created_at, _TABLE.c.id)
_PURPOSE: Final = "audit key"
_FIX: Final = "put back the key file that belongs to this database; if it is lost: stepbox audit rekey"


class AuditKeys:
    """The keys of one database, of which the newest seals. Everything runs in a thread of the database's."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._current: tuple[str, bytes] | None = None

    def current(self, connection: Connection) -> tuple[str, bytes]:
        """The id of the key that seals, and the key. The first one is made, with a secret key where there is none.

        Raises:
            SecretKeyError: the secret key is missing, is another one, or can't be used.
        """
        if self._current is None:
            row = connection.execute(_ALL).all()[-1:]
            if not row:
                hold_name(connection, _PURPOSE)
                row = connection.execute(_ALL).all()[-1:]
            if not row:
                if connection.execute(select(AuditHeadTable.__table__.c.workspace).limit(1)).first() is not None:
                    raise SecretKeyError("the keys of the audit are gone from the database", fix=_FIX)
                return self.add(connection)
            self._current = (row[0].id, self._opened(row[0].id, row[0].key_id, row[0].sealed))
        return self._current

    def add(self, connection: Connection) -> tuple[str, bytes]:
        """Make a new key, which seals from now on."""
        secret = next(iter(self._secrets()), None) or asyncio.run(self._source.make())
        key = secrets.token_bytes(32)
        key_id = key_id_of(key)
        values = {
            "id": key_id,
            "key_id": secret.id,
            "sealed": secret.seal(key, bound_to=bound_to(key_id)),
            "created_at": datetime.now(UTC),
        }
        connection.execute(insert(_TABLE), values)

        def keep() -> None:
            self._current = (key_id, key)

        after_commit(connection, keep)
        return key_id, key

    def all(self, connection: Connection) -> Mapping[str, bytes]:
        """By id the keys that can be opened."""
        found: dict[str, bytes] = {}
        for row in connection.execute(_ALL):
            try:
                found[row.id] = self._opened(row.id, row.key_id, row.sealed)
            except SecretKeyError:
                continue
        return found

    def _secrets(self) -> Sequence[SecretKey]:
        # In a thread of the database's, which has no loop: once for each process, mostly.
        return asyncio.run(self._source.read())

    def _opened(self, key_id: str, sealed_by: str, sealed: bytes) -> bytes:
        known = self._secrets()
        secret = next((one for one in known if one.id == sealed_by), None)
        if secret is None:
            place = self._source.place
            wrong = f"is encrypted by another key than {place} has" if known else f"can't be opened: {place} is missing"
            raise SecretKeyError(f"the audit's key {wrong}", fix=_FIX)
        try:
            return secret.unseal(sealed, bound_to=bound_to(key_id))
        except SealBrokenError:
            raise SecretKeyError("the audit's key was changed in the database", fix=_FIX) from None


def bound_to(key_id: str) -> tuple[str, str, str]:
    """What the encryption of a key is bound to: the place of a secret that no workspace has."""
    return ("", _PURPOSE, key_id)


def reseal(connection: Connection, by: Callable[[str, str, SealedSecret], SealedSecret]) -> None:
    """Encrypt the keys anew, as secrets are; those that nobody can open any more stay as they are."""
    for row in connection.execute(_ALL).all():
        try:
            one = by(*bound_to(row.id)[:2], SealedSecret(id=row.id, key_id=row.key_id, sealed=row.sealed))
        except SecretKeyError:
            continue
        values = {"key_id": one.key_id, "sealed": one.sealed}
        connection.execute(update(_TABLE).where(_TABLE.c.id == row.id).values(values))
