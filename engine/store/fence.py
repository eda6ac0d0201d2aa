"""What keeps an engine from writing on a run that it doesn't drive, or no longer.

Each write on a run names the engine and is made only where the run's ``owner`` is that one. On PostgreSQL the run's row
is locked meanwhile (``FOR KEY SHARE``), so that who takes the run over, lets go of it or ends it (:func:`seize`) waits
for it to commit and then sees it. A change of the run's other columns doesn't wait, nor does it hold up a write: else
two runs that wake each other, each in a transaction that writes on itself, would wait for each other. SQLite has one
writer.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Table, bindparam, exists, select
from sqlalchemy.exc import IntegrityError

from engine.store.errors import LeaseLostError
from engine.store.tables import RunTable

_RUN = RunTable.__table__
_DRIVES = _RUN.c.owner == bindparam("engine")
_HELD = select(_RUN.c.id).where(_RUN.c.id == bindparam("of_run"), _DRIVES).with_for_update(read=True, key_share=True)
_SEIZE = (
    select(_RUN.c.id).where(_RUN.c.id.in_(bindparam("these", expanding=True))).order_by(_RUN.c.id).with_for_update()
)


def driven_run() -> ScalarSelect[Any]:
    """For an INSERT: the id of the run ``:of_run`` where ``:engine`` drives it, else NULL, which no table takes."""
    return _HELD.scalar_subquery()


def is_driven(table: Table) -> ColumnElement[bool]:
    """For an UPDATE: whether ``:engine`` drives the run that a row of the table belongs to."""
    run = select(_RUN.c.id).where(_RUN.c.id == table.c.run_id, _DRIVES).with_for_update(read=True, key_share=True)
    return exists(run.correlate(table))


def hold(connection: Connection, run_id: str, engine: str) -> None:
    """Keep the run from being taken over until this transaction ends.

    Raises:
        LeaseLostError: the engine doesn't drive it.
    """
    if connection.scalar(_HELD, {"of_run": run_id, "engine": engine}) is None:
        raise LeaseLostError(run_id)


def seize(connection: Connection, run_ids: Collection[str]) -> None:
    """Let what is being written on runs commit, and nothing more be written on them until this transaction ends."""
    if run_ids and connection.dialect.name == "postgresql":
        connection.execute(_SEIZE, {"these": list(run_ids)})


def lost(error: IntegrityError, run_id: str) -> LeaseLostError | None:
    """What an INSERT with :func:`driven_run` failed for, where it was the fence."""
    text = str(error.orig).lower()
    return LeaseLostError(run_id) if "null" in text and "run_id" in text else None
