"""What is recorded of a run that another engine had begun: which steps have ended, and how far the others had come."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Self

from engine.records import ArtifactRecord, StepRun
from engine.store.leases import ENGINE_ENDED, ENGINE_STOPPED
from flows.contracts import Artifact, StepError, StepResult
from flows.definition import Definition
from flows.model import Retry, StepConfig
from flows.values import StepStatus

MAX_LOST: Final = 10
"""Attempts of one step (or item) during which an engine may end, before the step counts as the cause.

Of 3, half of all runs were given up where a service was killed twenty times, every 0.75 s on average.
"""

RUN_CANCELLED: Final = "run_cancelled"
NEEDS_FAILED: Final = "needs_failed"

_RETRY_REASON: Final = {
    StepStatus.FAILED: "error",
    StepStatus.TIMED_OUT: "timeout",
    StepStatus.OUT_OF_MEMORY: "out_of_memory",
    StepStatus.LIMIT_EXCEEDED: "limit_exceeded",
    StepStatus.KILLED: "killed",
}
_FUTILE: Final = frozenset(
    {"journal_mismatch", "tool_outcome_unknown", "approval_rejected", "approval_timed_out", "network_unapproved"}
)
"""Errors that a further attempt can only meet again."""

Key = tuple[str, int | None]


def wants_another(retry: Retry | None, result: StepResult, attempts: int) -> bool:
    """Whether a step's ``retry`` wants another attempt after so many, of which the last came to ``result``."""
    if retry is None or attempts >= retry.attempts or (result.error is not None and result.error.code in _FUTILE):
        return False
    return _RETRY_REASON.get(result.status) in retry.on


@dataclass(frozen=True, kw_only=True)
class Tries:
    """The attempts that a step, or one of its items, has behind it.

    ``made`` is the number of the last one. ``lost`` are those, by number, during which the engine ended or was stopped:
    they don't count against ``retry``. Nor do the ``parked`` ones. ``fatal`` is how many of the lost ones may have been
    what ended it.
    """

    made: int = 0
    lost: tuple[int, ...] = ()
    fatal: int = 0
    parked: tuple[int, ...] = ()

    @property
    def just_lost(self) -> tuple[int, ...]:
        """The lost and the parked attempts after the last that had an end of its own, the newest first."""
        found: list[int] = []
        for number in sorted((*self.lost, *self.parked), reverse=True):
            if number != self.made - len(found):
                break
            found.append(number)
        return tuple(found)


NO_TRIES: Final = Tries()


@dataclass(frozen=True, kw_only=True)
class Past:
    """``ended`` are the ends by step and item, ``left`` the artifacts of each; ``tries`` the attempts of what has none.

    ``reason`` says why the run goes no further, where that was recorded: it was cancelled, has timed out, or Stepbox
    failed. ``cut_off`` says that it was ending all the same, since it had cut an attempt off.
    """

    ended: Mapping[Key, StepRun] = field(default_factory=dict)
    left: Mapping[Key, tuple[Artifact, ...]] = field(default_factory=dict)
    tries: Mapping[Key, Tries] = field(default_factory=dict)
    reason: StepError | None = None
    cut_off: bool = False

    def outcome(self, step_id: str, item: int | None = None) -> StepResult | None:
        """What a step, or one of its items, came to; None where it has no end."""
        row = self.ended.get((step_id, item))
        return None if row is None else replace(row.outcome, artifacts=self.left.get((step_id, item), ()))

    @classmethod
    def of(cls, definition: Definition, rows: Iterable[StepRun], artifacts: Iterable[ArtifactRecord] = ()) -> Self:
        """Read it from the attempts of a run, given in the order in which they began, and from what they left.

        None of them is running.
        """
        by_key: dict[Key, list[StepRun]] = defaultdict(list)
        for row in rows:
            by_key[row.step_id, row.item].append(row)
        ended: dict[Key, StepRun] = {}
        tries: dict[Key, Tries] = {}
        reasons: list[StepError] = []
        cut_off = False
        main = {step.id for step in definition.flow.steps}
        for key, attempts in by_key.items():
            end = _end(definition.steps[key[0]], attempts)
            if end is None:
                tries[key] = Tries(
                    made=max(row.attempt for row in attempts),
                    lost=tuple(sorted(row.attempt for row in attempts if is_lost(row))),
                    fatal=sum(_code(row) == ENGINE_ENDED for row in attempts if is_lost(row)),
                    parked=tuple(sorted(row.attempt for row in attempts if is_parked(row))),
                )
                cut_off = cut_off or attempts[-1].status is StepStatus.CANCELLED
            else:
                ended[key] = end
                reason = _reason(end)
                if reason is not None and (key[0] in main or reason.code == RUN_CANCELLED):
                    reasons.append(reason)
        left: dict[Key, list[Artifact]] = defaultdict(list)
        for record in artifacts:
            if not record.superseded:
                left[record.step_id, None].append(record.artifact)
                if record.item is not None:
                    left[record.step_id, record.item].append(replace(record.artifact, path=record.path))
        kept = {key: tuple(left[key]) for key in ended if key in left}
        return cls(ended=ended, left=kept, tries=tries, reason=reasons[0] if reasons else None, cut_off=cut_off)


NOTHING: Final = Past()


def is_lost(row: StepRun) -> bool:
    """Whether the engine ended during the attempt, or was stopped."""
    return row.status is StepStatus.KILLED and _code(row) in {ENGINE_ENDED, ENGINE_STOPPED} and row.attempt > 0


def _code(row: StepRun) -> str | None:
    return None if row.error is None else row.error.code


def is_parked(row: StepRun) -> bool:
    """Whether the attempt ended since the step waits for something."""
    return row.status is StepStatus.WAITING


def _end(step: StepConfig, attempts: list[StepRun]) -> StepRun | None:
    last = max(attempts, key=lambda row: row.attempt)
    without_attempt = next((row for row in attempts if row.attempt == 0), None)
    if without_attempt is not None:
        return without_attempt
    if is_lost(last) or is_parked(last) or last.status is StepStatus.CANCELLED:
        return None
    counted = sum(1 for row in attempts if not (is_lost(row) or is_parked(row)))
    result = StepResult(status=last.status, error=last.error)
    return None if wants_another(step.retry, result, counted) else last


def _reason(end: StepRun) -> StepError | None:
    """Why the run goes no further, where it left the step without an execution of its own, or cut it off."""
    left = end.attempt == 0 and end.item is None and end.status in {StepStatus.SKIPPED, StepStatus.CANCELLED}
    return end.error if left and end.error is not None and end.error.code != NEEDS_FAILED else None
