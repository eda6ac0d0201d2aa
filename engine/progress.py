"""What happens in a run while it happens, for whoever watches it (the command line's live view)."""

import logging
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from engine.records import LogLine, Run, StepRun, ToolCall

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """A run began; or, with ``again``, one that had begun before goes on here."""

    run: Run
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class AttemptStarted:
    """An attempt of a step (or of one of its items) began."""

    attempt: StepRun


@dataclass(frozen=True, kw_only=True)
class CodeAdmitted:
    """The code of an attempt that was queued as it began (:attr:`engine.records.StepRun.queued`) has its slot."""

    attempt: StepRun


@dataclass(frozen=True, kw_only=True)
class AttemptEnded:
    """An attempt of a step ended; ``retrying`` where another one follows."""

    attempt: StepRun
    retrying: bool


@dataclass(frozen=True, kw_only=True)
class StepEnded:
    """A step is over: its last attempt, or the sum of its items. ``recalled``: it was so when the run was continued."""

    attempt: StepRun
    recalled: bool = False


@dataclass(frozen=True, kw_only=True)
class CallEnded:
    """A call of a tool was made, or failed; one whose recorded result was given again isn't."""

    call: ToolCall


@dataclass(frozen=True, kw_only=True)
class RunEnded:
    """A run is over and recorded, or can't go on yet: it waits."""

    run: Run


@dataclass(frozen=True, kw_only=True)
class LineLogged:
    """The code of a step printed a line."""

    line: LogLine


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something the installation did on the way, worth a line: ``message`` is for a person."""

    kind: Literal["setup", "warning"]
    message: str


Progress: TypeAlias = (
    RunStarted | AttemptStarted | CodeAdmitted | AttemptEnded | StepEnded | CallEnded | RunEnded | LineLogged | Notice
)


class Observer(Protocol):
    """Sees progress as it happens. Called from the event loop: it must return at once and never raise.

    What it is about is what is worked for where it is called (:mod:`engine.trace_context`).
    """

    def notice(self, progress: Progress) -> None: ...


class Undisturbed:
    """Passes progress on to an observer whose failures are its own: what it observes goes on."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def notice(self, progress: Progress) -> None:
        try:
            self._observer.notice(progress)
        except Exception:  # noqa: BLE001 - logged, whatever it is
            _log.exception("an observer failed on %s", type(progress).__name__)


class Observers:
    """Tells several observers, whatever becomes of each."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = [Undisturbed(observer) for observer in observers]

    def notice(self, progress: Progress) -> None:
        for observer in self._observers:
            observer.notice(progress)


class NoObserver:
    """Watches nothing."""

    def notice(self, progress: Progress) -> None:
        """Do nothing."""
