"""What can go wrong between the engine and its database."""

from flows.errors import InvalidCallError, StepboxError


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
    """More than one run has an id that begins so."""

    code = "ambiguous_id"


class AlreadyFinishedError(StoreError):
    """The run, step attempt or tool call has ended; what is finished is never changed."""

    code = "already_finished"
