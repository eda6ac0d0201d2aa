"""What a service logs of its runs: that they and their steps begin, and how they end."""

import logging

from engine.progress import AttemptEnded, AttemptStarted, Progress, RunEnded, RunStarted, StepEnded
from engine.records import Run, StepRun
from flows.values import Json, RunStatus

_log = logging.getLogger("stepbox.runs")


class RunLog:
    """An observer that writes a line for each; of a for-each's items only where the level is ``debug``."""

    def notice(self, progress: Progress) -> None:
        """See :class:`engine.progress.Observer`."""
        match progress:
            case RunStarted(run=run, again=again):
                _log.info("run goes on" if again else "run started", extra=_of_run(run))
            case RunEnded(run=run) if run.status is RunStatus.WAITING:
                _log.info("run waits", extra=_of_run(run))
            case RunEnded(run=run):
                error = None if run.error is None else run.error.code
                extra = {"status": run.status.value, "ms": _milliseconds(run.took or 0.0), "error": error}
                _log.info("run ended", extra={**_of_run(run), **extra})
            case AttemptStarted(attempt=attempt):
                _log.log(_level(attempt), "step started", extra=_of_attempt(attempt))
            case AttemptEnded(attempt=attempt, retrying=retrying):
                extra = {**_end(attempt), "retrying": retrying}
                _log.log(_level(attempt), "step ended", extra={**_of_attempt(attempt), **extra})
            case StepEnded(attempt=attempt, recalled=False) if attempt.attempt == 0:
                # Skipped, cached, cut off, or the sum of the items: no attempt was it.
                _log.info("step ended", extra={**_of_attempt(attempt), **_end(attempt)})
            case _:
                pass


def _of_run(run: Run) -> dict[str, Json]:
    return {"run": run.id, "flow": run.flow}


def _of_attempt(attempt: StepRun) -> dict[str, Json]:
    return {"run": attempt.run_id, "step": attempt.label, "attempt": attempt.attempt}


def _end(attempt: StepRun) -> dict[str, Json]:
    error = None if attempt.error is None else attempt.error.code
    return {"status": attempt.status.value, "ms": _milliseconds(attempt.duration), "error": error}


def _level(attempt: StepRun) -> int:
    return logging.INFO if attempt.item is None else logging.DEBUG


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 1)
