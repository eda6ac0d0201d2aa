"""The files that steps leave: what is known of each. Their contents are kept beside the database (contents.py)."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select

from engine.artifacts import EVENT, artifact_document
from engine.reach import ALL, Reach
from engine.records import ArtifactRecord, Run
from engine.store.contents import ArtifactContents
from engine.store.database import Database
from engine.store.errors import UnknownRecordError
from engine.store.reach import within
from engine.store.tables import NO_ITEM, ArtifactTable, RunTable, StepRunTable
from flows.contracts import Artifact

_TABLE = ArtifactTable.__table__
_ATTEMPTS = StepRunTable.__table__
_RUNS = RunTable.__table__
_INSERT = insert(_TABLE)
_OWNER = select(_ATTEMPTS.c.run_id, _ATTEMPTS.c.step_id, _ATTEMPTS.c.item, _ATTEMPTS.c.attempt).where(
    _ATTEMPTS.c.id == bindparam("this")
)
_LAST = (
    select(func.max(_ATTEMPTS.c.attempt))
    .where(
        _ATTEMPTS.c.run_id == _TABLE.c.run_id,
        _ATTEMPTS.c.step_id == _TABLE.c.step_id,
        _ATTEMPTS.c.item == _TABLE.c.item,
        _ATTEMPTS.c.ended_at.is_not(None),
    )
    .scalar_subquery()
)
_OF_RUN = (
    select(_TABLE, _LAST.label("last"))
    .where(_TABLE.c.run_id == bindparam("run"))
    .order_by(_TABLE.c.step_id, _TABLE.c.item, _TABLE.c.attempt, _TABLE.c.path)
)

_GET = (
    select(_TABLE, _LAST.label("last"))
    .join(_RUNS, _RUNS.c.id == _TABLE.c.run_id)
    .where(_TABLE.c.id == bindparam("this"), _RUNS.c.workspace == bindparam("of_workspace"))
)


class Artifacts:
    """The artifacts of all runs. They are recorded with the end of their attempt (:mod:`engine.store.steps`)."""

    def __init__(self, database: Database, contents: ArtifactContents) -> None:
        self._database = database
        self.contents = contents

    async def add_of_event(self, run: Run, artifacts: Sequence[Artifact]) -> None:
        """Record what came with the event that started a run."""
        values = [
            {
                "run_id": run.id,
                "step_id": EVENT,
                "item": NO_ITEM,
                "attempt": 0,
                "created_at": run.created_at,
                **artifact_document(one),
            }
            for one in artifacts
        ]
        if values:
            await self._database.write(lambda connection: connection.execute(_INSERT, values))

    async def get(self, artifact_id: str, *, workspace: str, reach: Reach = ALL) -> ArtifactRecord:
        """The artifact of that id, of a run of a flow within reach.

        Raises:
            UnknownRecordError: the workspace has none.
        """
        query = _GET.where(*within(reach, _RUNS.c.flow))
        rows = await self._database.rows(query, {"this": artifact_id, "of_workspace": workspace})
        if not rows:
            raise UnknownRecordError(
                f"there is no artifact {artifact_id!r}",
                fix="see the ids with: stepbox runs artifacts RUN --output json",
            )
        return _record(rows[0])

    async def list(self, run_id: str) -> tuple[ArtifactRecord, ...]:
        """Those of all attempts of a run, by step, item, attempt and path."""
        return await self._database.read(lambda connection: artifacts_of(connection, run_id))


def add_artifacts(connection: Connection, step_run_id: str, artifacts: Iterable[Artifact], at: datetime) -> None:
    """Record what an attempt left. Paths are without the item."""
    values = [
        {
            "id": one.id,
            "path": one.path,
            "size": one.size,
            "sha256": one.sha256,
            "media_type": one.media_type,
            "created_at": at,
        }
        for one in artifacts
    ]
    if values:
        owner = connection.execute(_OWNER, {"this": step_run_id}).one()._mapping  # noqa: SLF001 - its public name
        connection.execute(_INSERT, [{**owner, **one} for one in values])


def artifacts_of(connection: Connection, run_id: str) -> tuple[ArtifactRecord, ...]:
    """Those of all attempts of a run."""
    return tuple(_record(row) for row in connection.execute(_OF_RUN, {"run": run_id}))


def _record(row: Row[Any]) -> ArtifactRecord:
    values = dict(row._mapping)  # noqa: SLF001 - its public name for attributes that could clash with columns
    last = values.pop("last")
    record = ArtifactRecord(**{**values, "item": None if row.item == NO_ITEM else row.item})
    return replace(record, superseded=last is not None and last > record.attempt)
