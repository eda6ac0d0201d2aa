"""Recording in the audit what a transaction does: the one way for whatever writes to the database."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from sqlalchemy import Connection

from engine.audit import STEPBOX, Act, Actor, Outcome, Target, acting
from engine.store.database import Database, before_commit
from flows.values import Json

Chain: TypeAlias = Callable[[Connection, Act], None]
"""Adds an act to the chain of its workspace."""

_CHAIN: Final = "stepbox_audit"


def equip(database: Database, chain: Chain) -> None:
    """Have what is recorded in the database's transactions chained by this."""
    database.equip(_CHAIN, chain)


def record(
    connection: Connection,
    *,
    workspace: str,
    action: str,
    target: Target | None = None,
    run: str | None = None,
    outcome: Outcome = "succeeded",
    details: Mapping[str, Json] | None = None,
    actor: Actor | None = None,
) -> None:
    """Record an act with what the connection's transaction writes; see :class:`engine.audit.Act`.

    ``actor``: left out, it is who the task acts for (:func:`engine.audit.acting_as`), else Stepbox itself.
    """
    act = Act(
        workspace=workspace,
        actor=actor or acting() or STEPBOX,
        action=action,
        target=target,
        run=run,
        outcome=outcome,
        details=details or {},
    )
    chain: Chain = connection.get_execution_options()[_CHAIN]
    before_commit(connection, lambda last: chain(last, act), order=workspace)
