"""Steps of ``wait``: for a time, until a time, or for an event."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import PrivateAttr

from flows.contracts import Awaited, Catalogue, Finding, StepCall, StepError, StepResult, Waited, Wiring, waiting
from flows.errors import InvalidCallError, RefusedError
from flows.expressions import TooLargeError, check_expression, resolve
from flows.model import Config, StepConfig
from flows.selection import used_names
from flows.templates import OPENING, condition_source
from flows.values import MAX_COMPOSED, Duration, Json, StepStatus, json_size

WIRING = (
    Wiring(path=("wait", "until")),
    Wiring(path=("wait", "match"), condition=True, names=frozenset({"event"})),
)
_PATTERN = re.compile(r"[^\s\x00-\x1f]{1,300}")


class Wait(Config):
    """Either ``until`` or ``event``."""

    until: str | None = None
    """An ISO 8601 time with its offset, or an expression that gives one."""
    event: str | None = None
    """The type of event to wait for; ``*`` stands for any text."""
    match: str | None = None
    """A condition on the ``event``."""
    timeout: Duration | None = None
    """How long to wait for the event; left out: for ever."""
    on_timeout: Literal["fail", "continue"] = "fail"
    """Whether no event in time fails the step or gives a null."""


class WaitStep(StepConfig):
    """Parks the run. The result is the event; of a wait for a time, the times ``since``, ``until`` and ``at``."""

    wait: Duration | Wait
    """A duration, or a mapping with ``until`` or ``event``."""
    _names: Mapping[str, Json] = PrivateAttr(default_factory=dict)

    def resolved(self, names: Mapping[str, Json]) -> "WaitStep":
        """With the time that it waits until, where that is an expression, and with what ``match`` sees of the names.

        Raises:
            ExpressionError: the time can't be evaluated, or there is too much that ``match`` sees.
        """
        if not isinstance(self.wait, Wait):
            return self
        until = None if self.wait.until is None else resolve(self.wait.until, names)
        found = self.model_copy(update={"wait": self.wait.model_copy(update={"until": until})})
        if self.wait.match is not None:
            others = {name: value for name, value in names.items() if name != "event"}
            used = used_names(check_expression(condition_source(self.wait.match).text), others)
            if (size := json_size(used)) > MAX_COMPOSED:
                raise TooLargeError(
                    f"`match` reads {size:,} bytes of what the run has, the limit is {MAX_COMPOSED:,}",
                    fix="compare the event with less, such as one id",
                )
            found._names = used  # noqa: SLF001 - of its own copy
        return found

    def awaited(self) -> Awaited:
        """What it waits for, once :meth:`resolved`.

        Raises:
            InvalidTimeError: the time is none.
        """
        wait = self.wait
        if not isinstance(wait, Wait):
            return Awaited(seconds=wait)
        if wait.event is None:
            return Awaited(until=_time(wait.until))
        return Awaited(event=wait.event, match=wait.match, names=self._names, seconds=wait.timeout)


class InvalidTimeError(InvalidCallError):
    """What an expression gave is no time to wait until."""

    code = "invalid_time"


def check_wait(config: StepConfig, _catalogue: Catalogue) -> Iterator[Finding]:
    """Whether it waits for exactly one thing."""
    assert isinstance(config, WaitStep)
    wait = config.wait
    if not isinstance(wait, Wait):
        return
    if (wait.until is None) == (wait.event is None):
        code = "missing_key" if wait.until is None else "conflicting_keys"
        message = "`wait` is for a duration, `until` a time, or for an `event`"
        yield Finding(path=("wait",), code=code, message=message, fix="give one of the three", at="key")
    for key in ("match", "timeout"):
        if getattr(wait, key) is not None and wait.event is None:
            message = f"`{key}` means nothing without `event`"
            yield Finding(path=("wait", key), code="conflicting_keys", message=message, fix="add `event:`", at="key")
    if wait.event is not None and not _PATTERN.fullmatch(wait.event):
        message = "`event` must be 1 to 300 characters without spaces"
        fix = "write a type such as `com.example.order.paid`, or a pattern such as `com.example.*`"
        yield Finding(path=("wait", "event"), code="invalid_value", message=message, fix=fix)
    if wait.until is not None and OPENING not in wait.until and not _is_time(wait.until):
        message = f"`{wait.until[:80]}` is not a time with its offset"
        fix = "write it as `2030-01-31T09:00:00+01:00`, or as an expression"
        yield Finding(path=("wait", "until"), code="invalid_time", message=message, fix=fix)


class WaitExecutor:
    """Waits, and goes on once it is time or the event is there (:class:`flows.contracts.StepExecutor`)."""

    isolation = None

    async def refusal(self, config: StepConfig) -> RefusedError | None:
        """None: a run can wait everywhere."""

    def expect(self, config: StepConfig, count: int) -> None:
        """Do nothing: nothing is made ready for it."""

    async def execute(self, config: StepConfig, call: StepCall) -> StepResult:
        """Go on, or wait."""
        if not isinstance(config, WaitStep):
            raise TypeError(f"{type(config).__name__} is no step of a wait")
        waited = await call.wait(config.awaited())
        wait = config.wait
        if isinstance(wait, Wait) and wait.event is not None:
            return _of_event(wait, waited)
        if waited.until is None or waited.ended_at is None:
            return waiting(f"waits until {_utc(waited.until)}")
        times = {"since": waited.since, "until": waited.until, "at": waited.ended_at}
        result: Json = {name: time.isoformat() for name, time in times.items()}
        return StepResult(status=StepStatus.SUCCEEDED, result=result)


def _of_event(wait: Wait, waited: Waited) -> StepResult:
    what = f"an event of the type {wait.event}" + (f" where {wait.match}" if wait.match else "")
    if waited.event is not None:
        return StepResult(status=StepStatus.SUCCEEDED, result=dict(waited.event))
    if waited.ended_at is None:
        until = "" if waited.until is None else f", until {_utc(waited.until)}"
        return waiting(f"waits for {what}{until}")
    if wait.on_timeout == "continue":
        return StepResult(status=StepStatus.SUCCEEDED)
    message = f"no event came within {wait.timeout or 0:g} s: {what}"
    return StepResult(status=StepStatus.TIMED_OUT, error=StepError(code="wait_timed_out", message=message))


def _utc(time: datetime | None) -> str:
    return "?" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def _time(value: Json) -> datetime:
    try:
        if isinstance(value, str) and _is_time(value):
            return datetime.fromisoformat(value).astimezone(UTC)
    except OverflowError:
        pass
    raise InvalidTimeError(
        f"`wait.until` is {str(value)[:80]!r}, which is not a time with its offset",
        fix="give one such as 2030-01-31T09:00:00+01:00",
    )


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
