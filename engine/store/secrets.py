"""Secrets, of which only encrypted values are ever here."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, func, insert, or_, select, update
from sqlmodel import col

from engine.audit import Target
from engine.records import DEFAULT_WORKSPACE, SealedSecret, SecretSummary
from engine.store.audit_key import reseal as reseal_audit
from engine.store.audit_record import record
from engine.store.database import Database, upsert_into
from engine.store.locks import hold_name
from engine.store.secret_tables import THE_KEY, SecretKeyTable, SecretTable, SecretVersionTable
from flows.values import Json

_USE: Final = timedelta(minutes=1)
"""How exactly the last use is known, so that not each use is a write."""


KEY_LOCK: Final = "secret key"
"""Held together by who sets values, and alone by who changes the key of all."""
KEY_FIRST: Final = "first secret"
"""Held by who sets the first value of all."""
Reseal: TypeAlias = Callable[[str, str, SealedSecret], SealedSecret]
"""Encrypts a value of a workspace and a name anew."""


class KeyChangedError(Exception):
    """The values are encrypted by another key than the caller thought; ``key_id`` is the one of now."""

    def __init__(self, key_id: str) -> None:
        super().__init__(key_id)
        self.key_id = key_id


class Secrets:
    """The secrets of all workspaces. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(
        self, workspace: str, name: str, sealed: SealedSecret, *, live: int, until: datetime | None = None
    ) -> SecretSummary:
        """Make this the newest value of a secret, and keep ``live`` of its values, this one included.

        The others stay live until the time given, or the earlier one that they have.

        Raises:
            KeyChangedError: there are values, and they are encrypted by another key.
        """

        def put(connection: Connection) -> SecretSummary:
            secret = _put(connection, workspace, name, sealed, live, until)
            action = "secret.set" if until is None else "secret.rotate"
            _record(connection, workspace, action, name, {"values": secret.versions})
            return secret

        return await self._database.write(put)

    async def values(self, workspace: str, name: str) -> tuple[SealedSecret, ...]:
        """The live values, the newest first; none where there is no such secret."""
        table = SecretVersionTable.__table__.c
        query = (
            select(table.id, table.key_id, table.sealed)
            .where(table.workspace == workspace, table.name == name, _is_live(datetime.now(UTC)))
            .order_by(table.number.desc())
        )
        rows = await self._database.rows(query)
        return tuple(SealedSecret(id=row.id, key_id=row.key_id, sealed=row.sealed) for row in rows)

    async def used(self, workspace: str, name: str) -> None:
        """Note that a secret has been used now; exact to a minute."""
        now = datetime.now(UTC)
        table = SecretTable.__table__.c
        recent = select(table.name).where(
            table.workspace == workspace, table.name == name, table.last_used_at > now - _USE
        )
        if await self._database.rows(recent):
            return
        use = (
            update(SecretTable)
            .where(
                col(SecretTable.workspace) == workspace,
                col(SecretTable.name) == name,
                or_(col(SecretTable.last_used_at).is_(None), col(SecretTable.last_used_at) < now),
            )
            .values(last_used_at=now)
        )

        def note(connection: Connection) -> None:
            if connection.execute(use).rowcount == 1:
                _record(connection, workspace, "secret.use", name, {})

        await self._database.write(note)

    async def list(self, workspace: str) -> tuple[SecretSummary, ...]:
        """All secrets of a workspace by name."""
        query = _summaries().where(col(SecretTable.workspace) == workspace).order_by(col(SecretTable.name))
        return tuple(_summary(row) for row in await self._database.rows(query))

    async def delete(self, workspace: str, name: str, *, old_only: bool = False) -> int:
        """Remove a secret, or all but its newest value; gives how many values are gone."""

        def forget(connection: Connection) -> int:
            gone = _delete(connection, workspace, name, old_only=old_only)
            _record(connection, workspace, "secret.delete", name, {"values": gone})
            return gone

        return await self._database.write(forget)

    async def key_id(self) -> str | None:
        """The id of the key that the values of all workspaces are encrypted by; None where there are none."""
        return await self._database.read(_key_id)

    async def reseal(self, key_id: str, reseal: Reseal) -> int:
        """Encrypt every value anew, by the key of that id, in one transaction; gives how many there are.

        Whoever sets a value meanwhile hears of it (:class:`KeyChangedError`), and whatever ``reseal`` raises undoes it.
        """
        return await self._database.write(lambda connection: _reseal(connection, key_id, reseal))


def _key_id(connection: Connection) -> str | None:
    there = select(col(SecretVersionTable.id)).exists()
    return connection.scalar(select(col(SecretKeyTable.key_id)).where(there))


def _reseal(connection: Connection, key_id: str, reseal: Reseal) -> int:
    hold_name(connection, KEY_LOCK)
    table = SecretVersionTable.__table__.c
    rows = connection.execute(select(SecretVersionTable.__table__)).all()
    for row in rows:
        one = reseal(row.workspace, row.name, SealedSecret(id=row.id, key_id=row.key_id, sealed=row.sealed))
        change = update(SecretVersionTable).where(table.id == row.id)
        connection.execute(change.values(key_id=one.key_id, sealed=one.sealed))
    reseal_audit(connection, reseal)
    _note_key(connection, key_id)
    target, details = Target(kind="key", id=key_id), {"values": len(rows)}
    record(connection, workspace=DEFAULT_WORKSPACE, action="secret.rotate_key", target=target, details=details)
    return len(rows)


def _note_key(connection: Connection, key_id: str) -> None:
    now = datetime.now(UTC)
    upsert = upsert_into(connection, SecretKeyTable)
    connection.execute(
        upsert.values(id=THE_KEY, key_id=key_id, changed_at=now).on_conflict_do_update(
            index_elements=["id"], set_={"key_id": key_id, "changed_at": now}
        )
    )


def _record(connection: Connection, workspace: str, action: str, name: str, details: Mapping[str, Json]) -> None:
    target = Target(kind="secret", id=name)
    record(connection, workspace=workspace, action=action, target=target, details=details)


def _put(  # noqa: PLR0917 - one value, and what becomes of the others
    connection: Connection, workspace: str, name: str, sealed: SealedSecret, live: int, until: datetime | None
) -> SecretSummary:
    now = datetime.now(UTC)
    # Several at once; none while the key is changed, nor two of which each would be the first.
    known = _key_id_locked(connection)
    if known is None:
        _note_key(connection, sealed.key_id)
    elif known != sealed.key_id:
        raise KeyChangedError(known)
    upsert = upsert_into(connection, SecretTable)
    # It also locks the secret's row, so that two values never take one number.
    connection.execute(
        upsert.values(workspace=workspace, name=name, created_at=now, updated_at=now).on_conflict_do_update(
            index_elements=["workspace", "name"], set_={"updated_at": now}
        )
    )
    table = SecretVersionTable.__table__.c
    own = (table.workspace == workspace, table.name == name)
    number = (connection.scalar(select(func.max(table.number)).where(*own)) or 0) + 1
    connection.execute(
        insert(SecretVersionTable).values(
            id=sealed.id,
            workspace=workspace,
            name=name,
            number=number,
            key_id=sealed.key_id,
            sealed=sealed.sealed,
            created_at=now,
        )
    )
    kept = select(table.number).where(*own, _is_live(now)).order_by(table.number.desc()).limit(live)
    connection.execute(delete(SecretVersionTable).where(*own, table.number.not_in(kept)))
    if until is not None:
        longer = or_(table.expires_at.is_(None), table.expires_at > until)
        connection.execute(
            update(SecretVersionTable).where(*own, table.number < number, longer).values(expires_at=until)
        )
    query = _summaries().where(col(SecretTable.workspace) == workspace, col(SecretTable.name) == name)
    return _summary(connection.execute(query).one())


def _key_id_locked(connection: Connection) -> str | None:
    hold_name(connection, KEY_LOCK, shared=True)
    known = _key_id(connection)
    if known is None:
        hold_name(connection, KEY_FIRST)
        known = _key_id(connection)
    return known


def _is_live(now: datetime) -> ColumnElement[bool]:
    expires_at = col(SecretVersionTable.expires_at)
    return or_(expires_at.is_(None), expires_at > now)


def _delete(connection: Connection, workspace: str, name: str, *, old_only: bool) -> int:
    table = SecretVersionTable.__table__.c
    own = (table.workspace == workspace, table.name == name)
    if old_only:
        newest = select(func.max(table.number)).where(*own).scalar_subquery()
        return connection.execute(delete(SecretVersionTable).where(*own, table.number < newest)).rowcount
    gone = connection.execute(delete(SecretVersionTable).where(*own)).rowcount
    connection.execute(
        delete(SecretTable).where(col(SecretTable.workspace) == workspace, col(SecretTable.name) == name)
    )
    return gone


def _summaries() -> Select[*tuple[Any, ...]]:
    own = (
        col(SecretVersionTable.workspace) == col(SecretTable.workspace),
        col(SecretVersionTable.name) == col(SecretTable.name),
        _is_live(datetime.now(UTC)),
    )
    versions = select(func.count()).where(*own).correlate(SecretTable).scalar_subquery()
    until = select(func.max(col(SecretVersionTable.expires_at))).where(*own).correlate(SecretTable).scalar_subquery()
    return select(SecretTable.__table__, versions.label("versions"), until.label("old_until"))


def _summary(row: Row[Any]) -> SecretSummary:
    return SecretSummary(
        name=row.name,
        versions=row.versions,
        old_until=row.old_until,
        created_at=row.created_at,
        updated_at=row.updated_at,
        last_used_at=row.last_used_at,
    )
