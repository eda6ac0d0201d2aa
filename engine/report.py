"""The outcome of a run, read from the store, in the shape every door shows (DESIGN section 5)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from engine.artifacts import artifact_document
from engine.records import Run, StepRun, StepSummary
from flows.contracts import Artifact, StepError, StepResult
from flows.values import Json


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """A run and its steps, in the order in which they began."""

    run: Run
    steps: Mapping[str, StepSummary]

    def document(self) -> dict[str, Json]:
        """The JSON document of ``stepbox run --output json`` (DESIGN section 5)."""
        return {
            "run_id": self.run.id,
            "flow": self.run.flow,
            "status": self.run.status.value,
            "output": self.run.output,
            "error": error_document(self.run.error),
            "steps": {step_id: _summary_document(step) for step_id, step in self.steps.items()},
        }


def step_document(one: StepRun | StepResult, artifacts: Sequence[Artifact]) -> dict[str, Json]:
    """One attempt, with what it left, as the JSON of a step in DESIGN section 5."""
    return {
        "status": one.status.value,
        "result": one.result,
        "error": error_document(one.error),
        "attempts": 1,
        "isolation": one.isolation,
        "duration_ms": round(one.duration * 1000, 3),
        "tool_calls": one.tool_calls,
        "egress": one.egress,
        "artifacts": [artifact_document(artifact) for artifact in artifacts],
    }


def error_document(error: StepError | None) -> dict[str, Json] | None:
    """An error as JSON: ``code`` and ``message`` always, ``line``, ``traceback`` and ``fix`` or null."""
    return None if error is None else asdict(error)


def report(run: Run, steps: Iterable[StepSummary]) -> RunReport:
    """A run with its steps, given in the order in which they began."""
    return RunReport(run=run, steps={step.final.step_id: step for step in steps})


def _summary_document(step: StepSummary) -> dict[str, Json]:
    """A step as the JSON of DESIGN section 5; ``duration_ms`` is that of the last attempt.

    ``queued`` is there where its code waits for a slot.
    """
    queued = {"queued": step.queued} if step.queued else {}
    return {
        **queued,
        **step_document(step.final, step.artifacts),
        "attempts": step.attempts,
        "tool_calls": step.tool_calls,
        "egress": step.egress,
    }
