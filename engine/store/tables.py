"""The tables. They never leave ``engine/store/``: what goes in and out are the values of ``engine.records``.

Ids are ULIDs, so the order of ids is the order of creation, and a primary key serves as the listing's index. ``item``
is -1 where a step has no ``for_each``, because both databases take two NULLs in a unique key for different values.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import (
    BigInteger,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)
from sqlalchemy import Table as SqlTable
from sqlmodel import Field, SQLModel

from engine import records
from engine.store.types import NAME as _KEY
from engine.store.types import Payload, UtcDateTime
from flows.values import RunStatus

NO_ITEM = -1
DEFAULT_WORKSPACE = records.DEFAULT_WORKSPACE
UNFINISHED = (RunStatus.QUEUED.value, RunStatus.RUNNING.value, RunStatus.WAITING.value)
"""The statuses of runs that have no end."""

_SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")
_CODE_GOES_ON = text("code_workspace IS NOT NULL AND status = 'running'")
_TO_CANCEL = text("cancel_requested_at IS NOT NULL AND ended_at IS NULL")
_SLOT = text("slot IS NOT NULL")

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Table(SQLModel):
    """Base of the tables, with one naming of constraints for both databases."""

    metadata: ClassVar[MetaData] = MetaData(naming_convention=_NAMES)
    if TYPE_CHECKING:
        __table__: ClassVar[SqlTable]


class WorkspaceTable(Table, table=True):
    """A workspace; ``id`` is its name in URLs."""

    __tablename__ = "workspace"
    id: str = Field(primary_key=True)
    created_at: datetime = Field(sa_type=UtcDateTime)


class FlowTable(Table, table=True):
    """A flow by name; ``current`` is the number of its current version.

    ``applied`` says that somebody put it into service, ``enabled`` that it may start. A deleted flow keeps its row
    for its runs.
    """

    __tablename__ = "flow"
    __table_args__ = (UniqueConstraint("workspace", "name"),)
    id: str = Field(primary_key=True)
    workspace: str = Field(foreign_key="workspace.id")
    name: str = Field(sa_type=_KEY)
    current: int
    updated_at: datetime = Field(sa_type=UtcDateTime)
    applied: bool = Field(default=False, sa_column_kwargs={"server_default": false()})
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": true()})
    deleted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class FlowVersionTable(Table, table=True):
    """An immutable version of a flow. ``applied_by`` is the name of the principal who put it into service last."""

    __tablename__ = "flow_version"
    __table_args__ = (UniqueConstraint("flow_id", "number"), UniqueConstraint("flow_id", "digest"))
    id: str = Field(primary_key=True)
    flow_id: str = Field(foreign_key="flow.id")
    number: int
    digest: str
    text: str = Field(sa_type=Text)
    files: dict[str, str] = Field(sa_type=Payload)
    created_at: datetime = Field(sa_type=UtcDateTime)
    applied_by: str | None = None


class RunTable(Table, table=True):
    """A run. The indices are those of its listings: by workspace, with or without a flow and a status.

    ``owner`` is the engine that drives it, until ``lease_until`` unless that is prolonged. ``subflows`` has by name the
    versions of the flows that it can start; ``directories`` those from which its tool steps may import files. ``slot``
    is the key of its flow's concurrency, and ``slot_limit`` how many runs may have the same one; None where there is
    no limit. ``due_at`` is when it is to be continued while it waits (:mod:`engine.store.waits`); None: nothing that it
    waits for happens by itself. ``cut_short_at`` is when somebody asked for the second time to cancel it. ``principal``
    is the name of the one whom it acts for.
    """

    __tablename__ = "run"
    __table_args__ = (
        Index(None, "workspace", "id"),
        Index(None, "workspace", "flow", "id"),
        Index(None, "workspace", "status", "id"),
        Index(None, "workspace", "flow", "status", "id"),
        Index(None, "owner", sqlite_where=text("owner IS NOT NULL"), postgresql_where=text("owner IS NOT NULL")),
        Index(None, "due_at", sqlite_where=text("due_at IS NOT NULL"), postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_run_slots", "workspace", "status", "flow", "slot", "id", sqlite_where=_SLOT, postgresql_where=_SLOT),
        Index("ix_run_to_cancel", "workspace", "id", sqlite_where=_TO_CANCEL, postgresql_where=_TO_CANCEL),
    )
    id: str = Field(primary_key=True)
    workspace: str = Field(foreign_key="workspace.id")
    principal: str = Field(default=records.LOCAL, sa_column_kwargs={"server_default": records.LOCAL})
    flow: str
    flow_version_id: str = Field(foreign_key="flow_version.id", index=True)
    status: str
    inputs: dict[str, Any] = Field(sa_type=Payload)
    trigger: dict[str, Any] = Field(sa_type=Payload)
    output: Any = Field(default=None, sa_type=Payload, nullable=True)
    error: dict[str, Any] | None = Field(default=None, sa_type=Payload)
    parent_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    created_at: datetime = Field(sa_type=UtcDateTime)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    owner: str | None = None
    lease_until: datetime | None = Field(default=None, sa_type=UtcDateTime)
    subflows: dict[str, str] | None = Field(default=None, sa_type=Payload)
    directories: list[str] | None = Field(default=None, sa_type=Payload)
    cancel_requested_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    cut_short_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    slot: str | None = None
    slot_limit: int | None = None
    due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class StartKeyTable(Table, table=True):
    """The key under which a caller asked for a run. ``digest`` is that of what was asked for."""

    __tablename__ = "start_key"
    workspace: str = Field(primary_key=True, foreign_key="workspace.id")
    key: str = Field(primary_key=True, sa_type=_KEY)
    digest: str
    run_id: str = Field(foreign_key="run.id", index=True)


class StepRunTable(Table, table=True):
    """One attempt of a step. ``policy`` is the number of the workspace's policy that it was made under.

    ``code_workspace`` is the workspace of whose slots for code it takes one, since ``code_began_at``; NULL while it
    waits for one (:mod:`engine.store.code_slots`).
    """

    __tablename__ = "step_run"
    __table_args__ = (
        UniqueConstraint("run_id", "step_id", "item", "attempt"),
        Index("ix_step_run_code", "code_workspace", "id", sqlite_where=_CODE_GOES_ON, postgresql_where=_CODE_GOES_ON),
    )
    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id")
    step_id: str
    item: int
    attempt: int
    status: str
    result: Any = Field(default=None, sa_type=Payload, nullable=True)
    error: dict[str, Any] | None = Field(default=None, sa_type=Payload)
    isolation: str | None = None
    duration: float = 0.0
    tool_calls: int = 0
    egress: int = 0
    peak_memory: int | None = Field(default=None, sa_type=BigInteger)
    cpu_time: float | None = None
    image: str | None = None
    started_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    policy: int | None = None
    code_workspace: str | None = None
    code_began_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LogLineTable(Table, table=True):
    """One line of output; ``id`` grows within a run in the order of appending."""

    __tablename__ = "log_line"
    __table_args__ = (Index(None, "run_id", "id"),)
    id: int | None = Field(default=None, primary_key=True, sa_type=_SEQUENCE)
    run_id: str = Field(foreign_key="run.id")
    step_id: str
    item: int
    attempt: int
    stream: str
    line: str = Field(sa_type=Text)
    at: datetime = Field(sa_type=UtcDateTime)


class ToolCallTable(Table, table=True):
    """One call of a tool: the journal. ``uncertain``: it has no result, and may have been made all the same."""

    __tablename__ = "tool_call"
    __table_args__ = (Index(None, "run_id", "step_id", "item"),)
    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id")
    step_id: str
    item: int
    attempt: int
    tool: str
    arguments: Any = Field(sa_type=Payload, nullable=True)
    arguments_digest: str
    idempotency_key: str
    result: Any = Field(default=None, sa_type=Payload, nullable=True)
    error: dict[str, Any] | None = Field(default=None, sa_type=Payload)
    started_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    uncertain: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class EgressRecordTable(Table, table=True):
    """One request over the network: what was decided, and what went through."""

    __tablename__ = "egress_record"
    __table_args__ = (Index(None, "run_id", "id"),)
    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id")
    step_id: str
    item: int
    attempt: int
    host: str
    port: int
    address: str | None = None
    allowed: bool
    reason: str | None = Field(default=None, sa_type=Text)
    sent: int | None = Field(default=None, sa_type=BigInteger)
    received: int | None = Field(default=None, sa_type=BigInteger)
    started_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class ArtifactTable(Table, table=True):
    """A file that an attempt left; its content is kept beside the database, by its SHA-256."""

    __tablename__ = "artifact"
    __table_args__ = (UniqueConstraint("run_id", "step_id", "item", "attempt", "path"),)
    id: str = Field(primary_key=True)
    run_id: str = Field(foreign_key="run.id")
    step_id: str
    item: int
    attempt: int
    path: str = Field(sa_type=_KEY)
    size: int = Field(sa_type=BigInteger)
    sha256: str = Field(index=True)
    media_type: str
    created_at: datetime = Field(sa_type=UtcDateTime)


class DocumentTable(Table, table=True):
    """A document of a workspace; users choose the ids."""

    __tablename__ = "document"
    __table_args__ = (ForeignKeyConstraint(["workspace"], ["workspace.id"]),)
    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True, sa_type=_KEY)
    name: str
    content: str = Field(sa_type=Text)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class TaskTable(Table, table=True):
    """A task of a workspace."""

    __tablename__ = "task"
    __table_args__ = (
        ForeignKeyConstraint(["workspace"], ["workspace.id"]),
        Index(None, "workspace", "status_id", "updated_at"),
        Index(None, "workspace", "updated_at"),
    )
    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True, sa_type=_KEY)
    title: str
    status_id: str
    description: str = Field(sa_type=Text)
    assignee_id: str | None = None
    labels: list[str] = Field(sa_type=Payload)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class FileTable(Table, table=True):
    """What is known of a file of a workspace; its content is kept beside the database, by its SHA-256."""

    __tablename__ = "file"
    __table_args__ = (ForeignKeyConstraint(["workspace"], ["workspace.id"]),)
    workspace: str = Field(primary_key=True)
    id: str = Field(primary_key=True, sa_type=_KEY)
    name: str
    format: str
    size: int = Field(sa_type=BigInteger)
    sha256: str = Field(index=True)
    created_at: datetime = Field(sa_type=UtcDateTime)
    updated_at: datetime = Field(sa_type=UtcDateTime)


class EventTable(Table, table=True):
    """Something that came in. ``key`` is NULL where nothing tells it from another.

    ``repeats`` is how often it came again, the last time at ``repeated_at``.
    """

    __tablename__ = "event"
    __table_args__ = (UniqueConstraint("workspace", "origin", "key"), Index(None, "workspace", "id"))
    id: str = Field(primary_key=True)
    workspace: str = Field(foreign_key="workspace.id")
    kind: str
    origin: str
    key: str | None = None
    data: dict[str, Any] = Field(sa_type=Payload)
    causes: list[str] = Field(sa_type=Payload)
    traceparent: str | None = None
    occurred_at: datetime = Field(sa_type=UtcDateTime)
    received_at: datetime = Field(sa_type=UtcDateTime)
    repeats: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    repeated_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class DeliveryTable(Table, table=True):
    """An event at one trigger. ``due_at`` is NULL once it has ended."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("event_id", "flow", "trigger_id"),
        Index(None, "status", "due_at"),
        Index(None, "workspace", "id"),
        Index(None, "workspace", "flow", "id"),
        Index(None, "workspace", "status", "id"),
    )
    id: str = Field(primary_key=True)
    event_id: str = Field(foreign_key="event.id")
    workspace: str = Field(foreign_key="workspace.id")
    flow: str
    flow_version_id: str = Field(foreign_key="flow_version.id", index=True)
    trigger_id: str
    status: str
    reason: str | None = Field(default=None, sa_type=Text)
    error: dict[str, Any] | None = Field(default=None, sa_type=Payload)
    run_id: str | None = Field(default=None, foreign_key="run.id", index=True)
    attempts: int
    due_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    created_at: datetime = Field(sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class TriggerStateTable(Table, table=True):
    """Where a trigger stands."""

    __tablename__ = "trigger_state"
    __table_args__ = (ForeignKeyConstraint(["workspace"], ["workspace.id"]),)
    workspace: str = Field(primary_key=True)
    flow: str = Field(primary_key=True)
    trigger_id: str = Field(primary_key=True)
    moves: int
    position: Any = Field(default=None, sa_type=Payload, nullable=True)
    updated_at: datetime = Field(sa_type=UtcDateTime)
