"""Flows and their versions."""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, delete, func, insert, select, update
from sqlmodel import col
from ulid import ULID

from engine.reach import ALL, Reach
from engine.records import LOCAL, FlowDetail, FlowState, FlowSummary, FlowVersion, Page, RunSummary
from engine.store.database import Database, upsert_into
from engine.store.errors import UnknownRecordError
from engine.store.locks import hold_name
from engine.store.reach import within
from engine.store.runs import SUMMARY_COLUMNS, summary
from engine.store.tables import DEFAULT_WORKSPACE, FlowTable, FlowVersionTable, RunTable, TriggerStateTable
from flows.definition import Definition

KNOWN: Final = 256
"""Versions that :meth:`Flows.get` reads once, as they never change; the least recently used goes first."""

_VERSIONS = (
    select(func.count())
    .where(col(FlowVersionTable.flow_id) == col(FlowTable.id))
    .correlate(FlowTable)
    .scalar_subquery()
    .label("versions")
)


class Flows:
    """The flows of all workspaces. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: OrderedDict[str, FlowVersion] = OrderedDict()

    async def put_version(
        self,
        workspace: str,
        flow: str,
        text: str,
        files: Mapping[str, str],
        digest: str,
        *,
        apply: bool = False,
        by: str = LOCAL,
    ) -> FlowVersion:
        """Keep this text as a version of the flow.

        Text and files that the flow had before (the same ``digest``) are the version that they were then; new ones get
        the next number, counted from 1. The version becomes the current one where it is to be applied, or where the
        flow never was: a draft that is tried out doesn't change what is in service. Where it is applied, the runs that
        triggers start of it act for the principal ``by``, whoever had applied it before.
        """
        put = partial(_put, text=text, files=files, digest=digest, applied_by=by if apply else None)
        return await self._database.write(lambda connection: put(connection, workspace, flow))

    async def put_versions(self, workspace: str, definitions: Sequence[Definition]) -> Sequence[FlowVersion]:
        """Keep these versions, for runs of them, all or none; see :meth:`put_version`."""
        return await self._database.write(
            lambda connection: [
                _put(
                    connection,
                    workspace,
                    one.flow.flow,
                    text=one.text,
                    files=one.files,
                    digest=one.digest,
                    applied_by=None,
                )
                for one in definitions
            ]
        )

    async def lock(self, workspace: str) -> None:
        """Keep others from changing the flows of a workspace until the transaction ends."""
        await self._database.write(lambda connection: hold_name(connection, f"flows/{workspace}"))

    async def enable(self, flow: str, *, enabled: bool, workspace: str = DEFAULT_WORKSPACE) -> bool:
        """Let a flow start, or not; whether there is such a flow that was applied.

        One that was disabled begins anew: its triggers make up for nothing that came in between.
        """
        return await self._change(workspace, flow, enabled=enabled)

    async def delete(self, flow: str, *, workspace: str = DEFAULT_WORKSPACE) -> bool:
        """Forget a flow but for its runs and their versions; whether there was one."""
        return await self._change(workspace, flow, drafts=True, deleted_at=datetime.now(UTC), applied=False)

    async def _change(self, workspace: str, flow: str, *, drafts: bool = False, **values: object) -> bool:
        change = update(FlowTable).where(
            col(FlowTable.workspace) == workspace, col(FlowTable.name) == flow, col(FlowTable.deleted_at).is_(None)
        )
        if not drafts:
            change = change.where(col(FlowTable.applied))
        whose = {"of_workspace": workspace, "of_flow": flow}

        def write(connection: Connection) -> bool:
            before = connection.execute(_STATE_OF, whose).one_or_none()
            if connection.execute(change.values(values)).rowcount != 1:
                return False
            if "deleted_at" in values or (values.get("enabled") and before is not None and not before.enabled):
                connection.execute(_FORGET_POSITIONS, whose)
            return True

        return await self._database.write(write)

    async def detail(self, flow: str, *, workspace: str = DEFAULT_WORKSPACE) -> FlowDetail | None:
        """A flow with its current version, None where there is no such flow."""
        rows = await self._database.rows(
            _versions()
            .add_columns(_VERSIONS, col(FlowTable.updated_at), col(FlowTable.applied), col(FlowTable.enabled))
            .where(*_is_current(workspace, flow))
        )
        if not rows:
            return None
        row = rows[0]
        return FlowDetail(version=_version(row), versions=row.versions, state=_state(row), updated_at=row.updated_at)

    async def versions(
        self, flow: str, *, workspace: str = DEFAULT_WORKSPACE, limit: int = 50, before: int | None = None
    ) -> Page[FlowVersion]:
        """The versions of a flow, the newest first, those with a number under ``before``."""
        query = _versions().where(*_is_known(workspace, flow)).order_by(col(FlowVersionTable.number).desc())
        if before is not None:
            query = query.where(col(FlowVersionTable.number) < before)
        rows = await self._database.rows(query.limit(limit + 1))
        items = tuple(_version(row) for row in rows[:limit])
        return Page(items=items, next=str(items[-1].number) if len(rows) > limit else None)

    async def version(self, flow: str, number: int, *, workspace: str = DEFAULT_WORKSPACE) -> FlowVersion | None:
        """The version of that number, None where there is none."""
        query = _versions().where(*_is_known(workspace, flow), col(FlowVersionTable.number) == number)
        rows = await self._database.rows(query)
        return _version(rows[0]) if rows else None

    async def state(self, flow: str, *, workspace: str = DEFAULT_WORKSPACE) -> FlowState | None:
        """Whether a flow may start; None where there is no such flow."""
        rows = await self._database.rows(_STATE_OF, {"of_workspace": workspace, "of_flow": flow})
        return _state(rows[0]) if rows else None

    async def current(self, flow: str, *, workspace: str = DEFAULT_WORKSPACE) -> FlowVersion | None:
        """The version that was put last, None where there is no such flow."""
        rows = await self._database.rows(_versions().where(*_is_current(workspace, flow)))
        return _version(rows[0]) if rows else None

    async def get(self, version_id: str) -> FlowVersion:
        """The version of that id.

        Raises:
            UnknownRecordError: there is none.
        """
        if version_id in self._known:
            self._known.move_to_end(version_id)
            return self._known[version_id]
        rows = await self._database.rows(_VERSION_OF, {"this": version_id})
        if not rows:
            raise UnknownRecordError(f"there is no flow version {version_id!r}")
        version = _version(rows[0])
        if not self._database.in_transaction:
            self._known[version_id] = version
            if len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return version

    async def applied_by(self, version_id: str) -> str | None:
        """The name of the principal who put a version into service last; None: nobody did."""
        rows = await self._database.rows(_APPLIED_BY, {"this": version_id})
        return rows[0].applied_by if rows else None

    async def stamp(self) -> str:
        """Differs once a flow of any workspace was put into service, changed, enabled, disabled or deleted."""
        rows = await self._database.rows(_ENABLED_IDS)
        return hashlib.sha256("\n".join(f"{row.id} {row.current}" for row in rows).encode()).hexdigest()

    async def enabled(self) -> tuple[FlowVersion, ...]:
        """The current versions of the flows of all workspaces that may start, by workspace and name."""
        rows = await self._database.rows(_ENABLED)
        return tuple(_version(row) for row in rows)

    async def list(
        self,
        *,
        workspace: str = DEFAULT_WORKSPACE,
        limit: int | None = None,
        after: str | None = None,
        hidden: Collection[str] = (),
        reach: Reach = ALL,
    ) -> tuple[FlowSummary, ...]:
        """The flows of a workspace within reach by name, from ``after`` on, with its current version and newest run."""
        newest_run = (
            select(func.max(RunTable.id))
            .where(col(RunTable.workspace) == col(FlowTable.workspace), col(RunTable.flow) == col(FlowTable.name))
            .correlate(FlowTable)
            .scalar_subquery()
        )
        query = (
            select(
                col(FlowTable.name).label("name"),
                col(FlowTable.updated_at).label("updated_at"),
                col(FlowVersionTable.id).label("version_id"),
                col(FlowVersionTable.number).label("number"),
                col(FlowVersionTable.digest).label("digest"),
                _VERSIONS,
                col(FlowTable.applied),
                col(FlowTable.enabled),
                newest_run.label("newest_run"),
            )
            .join_from(
                FlowTable,
                FlowVersionTable,
                (col(FlowVersionTable.flow_id) == col(FlowTable.id))
                & (col(FlowVersionTable.number) == col(FlowTable.current)),
            )
            .where(
                col(FlowTable.workspace) == workspace,
                col(FlowTable.deleted_at).is_(None),
                *within(reach, FlowTable.__table__.c.name),
            )
            .order_by(col(FlowTable.name))
            .limit(limit)
        )
        if after is not None:
            query = query.where(col(FlowTable.name) > after)
        if hidden:
            query = query.where(col(FlowTable.name).not_in(hidden))

        def read(connection: Connection) -> tuple[Sequence[Row[*tuple[Any, ...]]], dict[str, RunSummary]]:
            rows = connection.execute(query).all()
            newest = [row.newest_run for row in rows if row.newest_run is not None]
            runs = connection.execute(select(*SUMMARY_COLUMNS).where(col(RunTable.id).in_(newest)))
            return rows, {row.id: summary(row) for row in runs}

        rows, runs = await self._database.read(read)
        return tuple(
            FlowSummary(
                flow=row.name,
                workspace=workspace,
                version_id=row.version_id,
                number=row.number,
                digest=row.digest,
                versions=row.versions,
                updated_at=row.updated_at,
                state=_state(row),
                last_run=runs.get(row.newest_run),
            )
            for row in rows
        )


def _put(
    connection: Connection,
    workspace: str,
    flow: str,
    *,
    applied_by: str | None,
    text: str,
    files: Mapping[str, str],
    digest: str,
) -> FlowVersion:
    apply = applied_by is not None
    now = datetime.now(UTC)
    upsert = upsert_into(connection, FlowTable)
    # The upsert also locks the flow's row, so that two versions never take one number.
    flow_id, current, applied, deleted_at = connection.execute(
        upsert.values(id=str(ULID()), workspace=workspace, name=flow, current=0, updated_at=now)
        .on_conflict_do_update(index_elements=["workspace", "name"], set_={"name": upsert.excluded.name})
        .returning(col(FlowTable.id), col(FlowTable.current), col(FlowTable.applied), col(FlowTable.deleted_at))
    ).one()
    known = connection.execute(
        _versions().where(col(FlowVersionTable.flow_id) == flow_id, col(FlowVersionTable.digest) == digest)
    ).one_or_none()
    if known is not None:
        version = _version(known)
    else:
        highest = select(func.max(FlowVersionTable.number)).where(col(FlowVersionTable.flow_id) == flow_id)
        version = FlowVersion(
            id=str(ULID()),
            workspace=workspace,
            flow=flow,
            number=(connection.scalar(highest) or 0) + 1,
            digest=digest,
            text=text,
            files=dict(files),
            created_at=now,
        )
        connection.execute(
            insert(FlowVersionTable).values(
                id=version.id,
                flow_id=flow_id,
                number=version.number,
                digest=digest,
                text=text,
                files=version.files,
                created_at=now,
            )
        )
    changes: dict[str, object] = {}
    if current != version.number and (apply or not applied):
        changes |= {"current": version.number, "updated_at": now}
    if deleted_at is not None:
        changes |= {"deleted_at": None, "enabled": True}
    if apply and not applied:
        changes |= {"applied": True}
    if apply:
        connection.execute(_APPLIED, {"this": version.id, "by": applied_by})
    if changes:
        connection.execute(update(FlowTable).where(col(FlowTable.id) == flow_id).values(changes))
    return version


def _is_known(workspace: str, flow: str) -> tuple[ColumnElement[bool], ...]:
    return (
        col(FlowTable.workspace) == workspace,
        col(FlowTable.name) == flow,
        col(FlowTable.deleted_at).is_(None),
    )


def _is_current(workspace: str, flow: str) -> tuple[ColumnElement[bool], ...]:
    return (*_is_known(workspace, flow), col(FlowVersionTable.number) == col(FlowTable.current))


def _state(row: Row[Any]) -> FlowState:
    if not row.applied:
        return "draft"
    return "enabled" if row.enabled else "disabled"


def _versions() -> Select[*tuple[Any, ...]]:
    return select(FlowVersionTable.__table__, col(FlowTable.workspace), col(FlowTable.name)).join_from(
        FlowVersionTable, FlowTable
    )


_VERSION_OF = _versions().where(col(FlowVersionTable.id) == bindparam("this"))
_STATE_OF = select(FlowTable.__table__.c.applied, FlowTable.__table__.c.enabled).where(
    col(FlowTable.workspace) == bindparam("of_workspace"),
    col(FlowTable.name) == bindparam("of_flow"),
    col(FlowTable.deleted_at).is_(None),
)
_IS_ENABLED = (
    col(FlowTable.deleted_at).is_(None),
    col(FlowTable.applied),
    col(FlowTable.enabled),
)
_ENABLED_IDS = select(FlowTable.__table__.c.id, FlowTable.__table__.c.current).where(*_IS_ENABLED).order_by("id")
_FORGET_POSITIONS = delete(TriggerStateTable).where(
    col(TriggerStateTable.workspace) == bindparam("of_workspace"), col(TriggerStateTable.flow) == bindparam("of_flow")
)
_OF_VERSION = FlowVersionTable.__table__.c.id == bindparam("this")
_APPLIED_BY = select(FlowVersionTable.__table__.c.applied_by).where(_OF_VERSION)
_APPLIED = update(FlowVersionTable.__table__).where(_OF_VERSION).values(applied_by=bindparam("by"))
_ENABLED = (
    _versions()
    .where(*_IS_ENABLED, col(FlowVersionTable.number) == col(FlowTable.current))
    .order_by(col(FlowTable.workspace), col(FlowTable.name))
)


def _version(row: Row[Any]) -> FlowVersion:
    return FlowVersion(
        id=row.id,
        workspace=row.workspace,
        flow=row.name,
        number=row.number,
        digest=row.digest,
        text=row.text,
        files=row.files,
        created_at=row.created_at,
    )
