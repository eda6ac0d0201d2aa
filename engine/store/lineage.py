"""Runs that are parts of one another: a subflow step starts a run whose ``parent_id`` is its own run's."""

from collections.abc import Iterable

from sqlalchemy import Connection, bindparam, select

from engine.store.tables import RunTable

_RUN = RunTable.__table__
_PARENT = select(_RUN.c.parent_id).where(_RUN.c.id == bindparam("this"))


def root_of(connection: Connection, run_id: str) -> str:
    """The run that a run is a part of in the end, or that itself."""
    while (parent := parent_of(connection, run_id)) is not None:
        run_id = parent
    return run_id


def parent_of(connection: Connection, run_id: str) -> str | None:
    """The run that started a run; None where none did."""
    parent: str | None = connection.scalar(_PARENT, {"this": run_id})
    return parent


def family_of(connection: Connection, run_ids: Iterable[str]) -> list[str]:
    """Runs and all that are parts of them."""
    family = list(run_ids)
    generation = family
    while generation:
        generation = list(connection.scalars(select(_RUN.c.id).where(_RUN.c.parent_id.in_(generation))))
        family = [*family, *generation]
    return family
