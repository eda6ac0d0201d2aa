"""Questions that runs wait for people to decide, and what these decided. Times are the database's clock."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Connection, Row, Update, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from ulid import ULID

from engine.audit import STEPBOX, Actor, Target, acting
from engine.questions import Approval, Decision, Kind, Way, requesters_of
from engine.reach import ALL, Reach
from engine.records import DEFAULT_WORKSPACE, Page
from engine.store import fence
from engine.store.approval_table import ApprovalTable
from engine.store.audit_record import record
from engine.store.clock import now_of
from engine.store.database import Database
from engine.store.errors import DecidedError, UnknownRecordError
from engine.store.lineage import root_of
from engine.store.reach import within
from engine.store.tables import NO_ITEM, RunTable
from engine.store.types import UtcDateTime
from engine.store.waits import wake
from flows.contracts import Asked, Question
from flows.values import Json

_TABLE = ApprovalTable.__table__
_THIS = _TABLE.c.id == bindparam("this")
_NOW = bindparam("now", type_=UtcDateTime())
_GET = select(_TABLE).where(_THIS)
_AT_PLACE = (
    (_TABLE.c.run_id == bindparam("run"))
    & (_TABLE.c.step_id == bindparam("step"))
    & (_TABLE.c.item == bindparam("of_item"))
    & (_TABLE.c.subject == bindparam("about"))
)
_ASKED = select(_TABLE).where(_AT_PLACE)
_ABOUT = select(_TABLE.c.run_id, _TABLE.c.flow_version_id).where(_THIS)
_RUN = RunTable.__table__
_OF_RUN = select(_RUN.c.workspace, _RUN.c.flow, _RUN.c.trigger, _RUN.c.principal).where(_RUN.c.id == bindparam("run"))
_RUNS_OF_VERSION = select(_RUN.c.id).where(_RUN.c.flow_version_id == bindparam("version"), _RUN.c.ended_at.is_(None))
_INSERT = insert(_TABLE)
_OPEN = _TABLE.c.decided_at.is_(None)
_DECIDE = update(_TABLE).where(_THIS, _OPEN, or_(_TABLE.c.expires_at.is_(None), _TABLE.c.expires_at > _NOW))
_EXPIRE = (
    update(_TABLE)
    .where(_OPEN, _TABLE.c.expires_at <= _NOW)
    .values(decision="timed_out", decided_at=_TABLE.c.expires_at)
)
_EXPIRE_THIS = _EXPIRE.where(_THIS)
_EXPIRE_ASKED = _EXPIRE.where(_AT_PLACE)
_EXPIRE_OF_RUN = _EXPIRE.where(_TABLE.c.run_id == bindparam("run"))
_WITHDRAW = (
    update(_TABLE).where(_TABLE.c.run_id == bindparam("run"), _OPEN).values(decision="withdrawn", decided_at=_NOW)
)


class AskWitness(Protocol):
    """Is told of the questions that this process puts."""

    def cares_for_questions(self) -> bool:
        """Whether to be told of questions; asked of each, so it is to be quick."""

    async def asked(self, question: Approval, flow: str, trigger: Mapping[str, Json]) -> None:
        """A run of a flow, which ``trigger`` started, asks. What is written here is committed with the question."""


class Approvals:
    """The questions of all runs. Every method is one transaction. ``witness`` is told of new ones; None: nobody is."""

    def __init__(self, database: Database, engine: str) -> None:
        self._database = database
        self._engine = engine
        self.witness: AskWitness | None = None

    async def ask(
        self,
        run_id: str,
        step_id: str,
        question: Question,
        *,
        item: int | None = None,
        subject: str = "",
        kind: Kind = "step",
    ) -> Asked:
        """How the question of a step (or item) stands, which is put where it has not been. It is put once a run.

        Raises:
            LeaseLostError: ``engine`` doesn't drive the run.
        """
        key = {"run": run_id, "step": step_id, "of_item": NO_ITEM if item is None else item, "about": subject}

        def put(connection: Connection) -> tuple[Row[Any], Any]:
            fence.hold(connection, run_id, self._engine)
            now = now_of(connection)
            _expire(connection, _EXPIRE_ASKED, {**key, "now": now})
            known = connection.execute(_ASKED, key).one_or_none()
            if known is not None:
                return known, None
            run = connection.execute(_OF_RUN, {"run": run_id}).one()
            first = connection.execute(_OF_RUN, {"run": root_of(connection, run_id)}).one()
            about = {"workspace": run.workspace, "flow": run.flow, "kind": kind}
            requesters = list(requesters_of(first.principal))
            connection.execute(
                _INSERT, {**question_values(question, now), **_place(key), **about, "requesters": requesters}
            )
            return connection.execute(_ASKED, key).one(), run

        try:
            row = await self._put(put)
        except IntegrityError:
            # Another call of the run's has just put it.
            row = await self._put(put)
        return asked_of(row)

    async def _put(self, put: Callable[[Connection], tuple[Row[Any], Any]]) -> Row[Any]:
        if self.witness is None or not self.witness.cares_for_questions():
            return (await self._database.write(put))[0]
        async with self._database.transaction():
            row, run = await self._database.write(put)
            if run is not None:
                await self.witness.asked(approval_of(row), run.flow, run.trigger)
        return row

    async def decide(
        self,
        approval_id: str,
        decision: Decision,
        *,
        by: str,
        via: Way = "local",
        comment: str | None = None,
        values: Json = None,
    ) -> Approval:
        """Decide a question: once, and before its time is over. The run that waits for it is due.

        Of a question about a flow version, all its runs are.

        Raises:
            UnknownRecordError: there is no such question.
            DecidedError: it has been decided, its time is over, or its run has ended.
        """
        given = {"decision": decision, "decided_by": by, "decided_via": via, "comment": comment, "form_values": values}

        def decide(connection: Connection) -> Row[Any]:
            now = now_of(connection)
            about = connection.execute(_ABOUT, {"this": approval_id}).one_or_none()
            for run_id in () if about is None else _waiting_for(connection, about):
                wake(connection, root_of(connection, run_id), now)
            _expire(connection, _EXPIRE_THIS, {"this": approval_id, "now": now})
            decided = connection.execute(_DECIDE.values(**given, decided_at=now), {"this": approval_id, "now": now})
            row = connection.execute(_GET, {"this": approval_id}).one_or_none()
            if row is None:
                raise UnknownRecordError(f"there is no approval {approval_id!r}", fix="see: stepbox approvals list")
            if decided.rowcount != 1:
                raise DecidedError(approval_id, _how(row))
            _record(connection, row, actor=acting() or Actor(name=by, kind="person"))
            return row

        return approval_of(await self._database.write(decide))

    async def get(self, approval_id: str) -> Approval | None:
        """The question of that id, None where there is none; one whose time is over counts as decided."""

        def read(connection: Connection) -> Approval | None:
            row = connection.execute(_GET, {"this": approval_id}).one_or_none()
            return None if row is None else approval_of(row, now_of(connection))

        return await self._database.read(read)

    async def list(
        self,
        *,
        workspace: str = DEFAULT_WORKSPACE,
        runs: Iterable[str] | None = None,
        prefix: str = "",
        undecided: bool = False,
    ) -> tuple[Approval, ...]:
        """All of :meth:`page`."""
        page = await self.page(workspace=workspace, runs=runs, prefix=prefix, undecided=undecided)
        return page.items

    async def page(
        self,
        *,
        workspace: str = DEFAULT_WORKSPACE,
        runs: Iterable[str] | None = None,
        prefix: str = "",
        undecided: bool = False,
        reach: Reach = ALL,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page[Approval]:
        """The questions, the newest first, all of them without a limit; one whose time is over counts as decided.

        ``runs`` keeps those of these runs and of their versions, ``prefix`` those whose id begins so, ``reach`` those
        of these flows. ``cursor`` is the ``next`` of the page before. A page can have fewer than ``limit``, and others
        after it.
        """
        query = select(_TABLE).where(_TABLE.c.workspace == workspace)
        if runs is not None:
            of = list(runs)
            versions = select(_RUN.c.flow_version_id).where(_RUN.c.id.in_(of))
            query = query.where(or_(_TABLE.c.run_id.in_(of), _TABLE.c.flow_version_id.in_(versions)))
        if prefix:
            query = query.where(func.substr(_TABLE.c.id, 1, len(prefix)) == prefix)
        if undecided:
            query = query.where(_OPEN)
        if not reach.is_all:
            query = query.where(*within(reach, _TABLE.c.flow))
        if cursor is not None:
            query = query.where(_TABLE.c.id < cursor)
        query = query.order_by(_TABLE.c.id.desc()).limit(None if limit is None else limit + 1)

        def read(connection: Connection) -> Page[Approval]:
            now = now_of(connection)
            found = [approval_of(row, now) for row in connection.execute(query)]
            here = found[:limit]
            items = tuple(one for one in here if not (undecided and one.decision is not None))
            return Page(items=items, next=here[-1].id if len(found) > len(here) else None)

        return await self._database.read(read)


def expire(connection: Connection, run_id: str, now: datetime) -> None:
    """Note which questions of a run nobody has decided in time."""
    _expire(connection, _EXPIRE_OF_RUN, {"run": run_id, "now": now})


def _expire(connection: Connection, statement: Update, values: Mapping[str, Any]) -> None:
    for row in connection.execute(statement.returning(*_TABLE.c), values).all():
        _record(connection, row, actor=STEPBOX)


def _record(connection: Connection, row: Row[*tuple[Any, ...]], *, actor: Actor) -> None:
    details = {"step": row.step_id, "subject": row.subject, "decision": row.decision, "comment": row.comment}
    record(
        connection,
        workspace=row.workspace,
        actor=actor,
        action="approval.expire" if row.decision == "timed_out" else "approval.decide",
        target=Target(kind="approval", id=row.id),
        run=row.run_id,
        details={name: one for name, one in details.items() if one},
    )


def withdraw(connection: Connection, run_id: str, now: datetime) -> None:
    """Take back the questions of a run that ends before they are decided."""
    connection.execute(_WITHDRAW, {"run": run_id, "now": now})


def question_values(question: Question, now: datetime) -> dict[str, Any]:
    """The columns of a new question that say what it is, but for what it is about."""
    return {
        "id": str(ULID()),
        "message": question.message,
        "details": question.details,
        "form": None if question.form is None else dict(question.form),
        "approvers": list(question.approvers),
        "own": question.own,
        "notify": list(question.notify),
        "announced": False,
        "on_timeout": question.on_timeout,
        "requested_at": now,
        "expires_at": None if question.timeout is None else now + timedelta(seconds=question.timeout),
    }


def _place(key: dict[str, Any]) -> dict[str, Any]:
    return {"run_id": key["run"], "step_id": key["step"], "item": key["of_item"], "subject": key["about"]}


def _how(row: Row[Any]) -> str:
    if row.decision == "timed_out":
        return f"its time was over at {row.expires_at:%Y-%m-%d %H:%M:%S} UTC"
    if row.decision == "withdrawn":
        return "the run ended before anybody had decided"
    return f"{row.decision} by {row.decided_by} at {row.decided_at:%Y-%m-%d %H:%M:%S} UTC"


def _waiting_for(connection: Connection, about: Row[*tuple[Any, ...]]) -> Iterable[str]:
    """The runs that go on with a decision."""
    if about.run_id is not None:
        return (about.run_id,)
    return list(connection.scalars(_RUNS_OF_VERSION, {"version": about.flow_version_id}))


def asked_of(row: Row[Any]) -> Asked:
    """A row as who asks sees it."""
    return Asked(
        id=row.id,
        decision=row.decision,
        by=row.decided_by,
        at=row.decided_at,
        comment=row.comment,
        values=row.form_values,
    )


def approval_of(row: Row[Any], now: datetime | None = None) -> Approval:
    """A row as a value; with ``now``, one whose time is over counts as decided."""
    values = dict(row._mapping)  # noqa: SLF001 - its public name for attributes that could clash with columns
    del values["announced"]
    values |= {"item": None if row.item == NO_ITEM else row.item}
    values |= {name: tuple(values[name] or ()) for name in ("approvers", "requesters", "notify")}
    if now is not None and row.decided_at is None and row.expires_at is not None and row.expires_at <= now:
        values |= {"decision": "timed_out", "decided_at": row.expires_at}
    return Approval(**values)
