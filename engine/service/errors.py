"""What the use cases refuse."""

from collections.abc import Mapping

from flows.errors import InvalidCallError, StepboxError


class PreconditionFailedError(InvalidCallError):
    """The flow is another one by now than the caller has seen."""

    code = "precondition_failed"


class FlowDisabledError(InvalidCallError):
    """The flow is disabled: nothing starts it."""

    code = "flow_disabled"


class StartKeyReusedError(InvalidCallError):
    """The idempotency key was used before, to ask for something else."""

    code = "idempotency_key_reused"


class ShuttingDownError(StepboxError):
    """The service ends and starts nothing more."""

    code = "shutting_down"


class AllDrivenError(StepboxError):
    """As many runs go on as the service drives at once."""

    code = "all_driven"


class RejectedError(StepboxError):
    """A request of another system that isn't taken: ``status`` and ``headers`` are its HTTP answer's.

    ``reason`` is what the answer has as its ``code``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        reason: str,
        fix: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, fix=fix)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class InvalidPositionError(InvalidCallError):
    """The position in a stream or a listing is none that was given."""

    code = "invalid_position"
