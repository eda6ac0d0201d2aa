"""What keeps an engine from writing on a run that it doesn't drive, or no longer.

Each write on a run names the engine and is made only where the run's ``owner`` is that one. On PostgreSQL the run's row
is locked meanwhile (``FOR SHARE``), so that a take-over waits for it to commit and then sees it. SQLite has one writer.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, ScalarSelect, Table, bindparam, exists, select
from sqlalchemy.exc import IntegrityError

from engine.store.errors import LeaseLostError
from engine.store.tables import RunTable

_RUN = RunTable.__table__
_DRIVES = _RUN.c.owner == bindparam("engine")
_HELD = select(_RUN.c.id).where(_RUN.c.id == bindparam("of_run"), _DRIVES).with_for_update(read=True)


def driven_run() -> ScalarSelect[Any]:
    """For an INSERT: the id of the run ``:of_run`` where ``:engine`` drives it, else NULL, which no table takes."""
    return _HELD.scalar_subquery()


def is_driven(table: Table) -> ColumnElement[bool]:
    """For an UPDATE: whether ``:engine`` drives the run that a row of the table belongs to."""
    run = select(_RUN.c.id).where(_RUN.c.id == table.c.run_id, _DRIVES).with_for_update(read=True)
    return exists(run.correlate(table))


def hold(connection: Connection, run_id: str, engine: str) -> None:
    """Keep the run from being taken over until this transaction ends.

    Raises:
        LeaseLostError: the engine doesn't drive it.
    """
    if connection.scalar(_HELD, {"of_run": run_id, "engine": engine}) is None:
        raise LeaseLostError(run_id)


def lost(error: IntegrityError, run_id: str) -> LeaseLostError | None:
    """What an INSERT with :func:`driven_run` failed for, where it was the fence."""
    text = str(error.orig).lower()
    return LeaseLostError(run_id) if "null" in text and "run_id" in text else None
