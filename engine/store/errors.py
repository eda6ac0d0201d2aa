"""What can go wrong between the engine and its database."""

from collections.abc import Sequence
from typing import Final

from flows.errors import InvalidCallError, StepboxError
from steps.sandbox.owner import describe

_NAMED: Final = 3
"""Of several that are meant, so many are named."""


class StoreError(StepboxError):
    """The database can't be used as it is."""

    code = "store_error"


class StoreUnavailableError(StoreError):
    """The database can't be reached or opened."""

    code = "store_unavailable"


class StoreNewerError(StoreError):
    """The database was written by a newer Stepbox than this one."""

    code = "store_newer"
    exit_status = 2


class InvalidDatabaseUrlError(InvalidCallError):
    """The database URL names something that Stepbox can't use."""

    code = "invalid_database_url"


class UnknownRecordError(InvalidCallError):
    """There is no run, flow, version, step attempt or tool call with that id."""

    code = "unknown_record"


class AmbiguousIdError(InvalidCallError):
    """More than one run, event or approval is meant by what was given: ``ids`` are theirs, of which some are named."""

    code = "ambiguous_id"

    def __init__(self, what: str, given: str, ids: Sequence[str]) -> None:
        named = ", ".join(ids[:_NAMED]) + (" …" if len(ids) > _NAMED else "")
        super().__init__(f"more than one {what} is meant by {given!r}: {named}", fix="give more of the id")


class RunDrivenError(InvalidCallError):
    """An engine drives the run that another one asks for. ``owner`` is its identity (:mod:`steps.sandbox.owner`)."""

    code = "run_driven"

    def __init__(self, run_id: str, owner: str | None) -> None:
        by = "another engine" if owner is None else describe(owner)
        super().__init__(f"run {run_id} is driven by {by}", fix="wait for its end, or end that process first")
        self.owner = owner


class SlotsTakenError(InvalidCallError):
    """As many runs of a flow go on as its ``concurrency`` allows."""

    code = "too_many_runs"

    def __init__(self, flow: str, limit: int) -> None:
        runs = "a run" if limit == 1 else f"{limit} runs"
        super().__init__(
            f"{runs} of `{flow}` at once: more its concurrency doesn't allow",
            fix="wait for the end of another, or raise the `limit`",
        )


class DecidedError(InvalidCallError):
    """The question has its decision, which is never changed, or can have none any more."""

    code = "already_decided"

    def __init__(self, approval_id: str, how: str) -> None:
        super().__init__(f"approval {approval_id} can't be decided any more: {how}", fix="see: stepbox approvals list")


class NotRevocableError(InvalidCallError):
    """Only a decision on a flow version can be taken back, once."""

    code = "not_revocable"

    def __init__(self, approval_id: str) -> None:
        super().__init__(
            f"approval {approval_id} can't be taken back: only a decision on `network: full` can, once",
            fix="see: stepbox approvals list --all",
        )


class LeaseLostError(Exception):
    """This engine doesn't drive the run that it writes on: another one has taken it over, or it never did.

    Or it can't, since the database fails (the cause is a :class:`StoreUnavailableError`): what became of the run is
    then read from the database once that answers again, as where the engine had ended.

    Not a :class:`flows.errors.StepboxError`: nothing of a run may take it for what a step or a call came to.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(f"this engine doesn't drive run {run_id}")
        self.run_id = run_id


class AlreadyFinishedError(StoreError):
    """The run, step attempt or tool call has ended; what is finished is never changed."""

    code = "already_finished"


class NameTakenError(InvalidCallError):
    """There is, or was, a workspace or a principal of that name."""

    code = "name_taken"


class LastAdminError(InvalidCallError):
    """The principal is the last enabled admin of the default workspace, whom nobody could replace."""

    code = "last_admin"


class WorkspaceInUseError(InvalidCallError):
    """The workspace isn't empty, or is the one that is always there."""

    code = "workspace_in_use"
