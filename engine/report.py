"""The outcome of a run, read from the store, in the shape every door shows (DESIGN section 5)."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from engine.records import Run, StepRun
from flows.contracts import StepError, StepResult
from flows.values import Json


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """How one step of a run ended. ``final`` is its last attempt, or for a for-each the sum of its items.

    ``attempts`` counts executions, those of all items together; 0 where the step was skipped or came from the cache.
    """

    final: StepRun
    attempts: int
    tool_calls: int
    egress: int

    def document(self) -> dict[str, Json]:
        """As the JSON of DESIGN section 5; ``duration_ms`` is that of the last attempt."""
        return {
            **step_document(self.final),
            "attempts": self.attempts,
            "tool_calls": self.tool_calls,
            "egress": self.egress,
        }


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A run and its steps, in the order in which they began."""

    run: Run
    steps: Mapping[str, StepReport]

    def document(self) -> dict[str, Json]:
        """The JSON document of ``stepbox run --output json`` (DESIGN section 5)."""
        return {
            "run_id": self.run.id,
            "flow": self.run.flow,
            "status": self.run.status.value,
            "output": self.run.output,
            "error": error_document(self.run.error),
            "steps": {step_id: step.document() for step_id, step in self.steps.items()},
        }


def step_document(one: StepRun | StepResult) -> dict[str, Json]:
    """One attempt as the JSON of a step in DESIGN section 5."""
    return {
        "status": one.status.value,
        "result": one.result,
        "error": error_document(one.error),
        "attempts": 1,
        "isolation": one.isolation,
        "duration_ms": round(one.duration * 1000, 3),
        "tool_calls": one.tool_calls,
        "egress": one.egress,
    }


def error_document(error: StepError | None) -> dict[str, Json] | None:
    """An error as JSON: ``code`` and ``message`` always, ``line``, ``traceback`` and ``fix`` or null."""
    return None if error is None else asdict(error)


def report(run: Run, attempts: Iterable[StepRun]) -> RunReport:
    """Put a run's attempts (in the order they began) together, step by step."""
    by_step: dict[str, list[StepRun]] = {}
    for attempt in attempts:
        by_step.setdefault(attempt.step_id, []).append(attempt)
    return RunReport(run=run, steps={step_id: _step_report(rows) for step_id, rows in by_step.items()})


def _step_report(rows: list[StepRun]) -> StepReport:
    of_items = [row for row in rows if row.item is not None]
    of_step = [row for row in rows if row.item is None]
    executed = of_items or of_step
    return StepReport(
        final=(of_step or of_items)[-1],
        attempts=sum(1 for row in executed if row.attempt > 0),
        tool_calls=sum(row.tool_calls for row in executed),
        egress=sum(row.egress for row in executed),
    )
