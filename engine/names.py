"""What the expressions of a run see (docs/flows.md, Expressions)."""

from collections.abc import Mapping

from engine.artifacts import artifact_document
from engine.records import Run
from flows.contracts import StepError, StepResult
from flows.values import Json


class Names:
    """The names of one run; they grow as its steps end."""

    def __init__(self, run: Run) -> None:
        self._steps: dict[str, Json] = {}
        self._run: dict[str, Json] = {
            "id": run.id,
            "flow": run.flow,
            "started_at": (run.started_at or run.created_at).isoformat(),
            "error": None,
        }
        self._roots: dict[str, Json] = {
            "inputs": dict(run.inputs),
            "steps": self._steps,
            "event": run.trigger.get("event"),
            "trigger": run.trigger.get("trigger"),
            "run": self._run,
        }

    def add_step(self, step_id: str, result: StepResult) -> None:
        """From now on the step is seen as it ended."""
        error = result.error
        self._steps[step_id] = {
            "result": result.result,
            "status": result.status.value,
            "error": None if error is None else {"code": error.code, "message": error.message, "line": error.line},
            "artifacts": [artifact_document(one) for one in result.artifacts],
        }

    def set_error(self, error: StepError | None) -> None:
        """Why the run failed, for the steps of ``on_failure`` and ``finally``."""
        self._run["error"] = None if error is None else {"code": error.code, "message": error.message}

    def of_step(self) -> Mapping[str, Json]:
        """What every step sees. It stays as it is only until the next step ends."""
        return self._roots

    def of_item(self, name: str, item: Json, index: int) -> Mapping[str, Json]:
        """What one item of a for-each sees besides; ``name`` is the item's."""
        return {**self._roots, name: item, "index": index}
