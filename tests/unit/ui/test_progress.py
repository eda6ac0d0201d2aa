"""What a run looks like while it goes on, on a terminal and elsewhere."""

from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from engine.bootstrap import language
from engine.progress import AttemptEnded, AttemptStarted, LineLogged, Progress, StepEnded
from engine.records import LogLine, StepRun
from flows.contracts import StepError
from flows.values import StepStatus
from ui.cli.progress import LiveView, PlainView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FLOW = "flow: f\nsteps: [{id: load, name: Load it, shell: 'true'}, {id: sum, shell: 'true'}]\nfinally: [{id: tidy, shell: 'true'}]"


def attempt(step: str, status: StepStatus, number: int = 1, item: int | None = None, error: str = "") -> StepRun:
    return StepRun(
        id=f"{step}-{number}",
        run_id="run",
        step_id=step,
        item=item,
        attempt=number,
        status=status,
        error=StepError(code="failed", message=error, line=3) if error else None,
        duration=0.25,
        started_at=NOW,
    )


def line(text: str) -> LineLogged:
    logged = LogLine(run_id="run", step_id="load", attempt=1, stream="stderr", line=text, at=NOW)
    return LineLogged(line=logged)


def shown(*progress: Progress) -> str:
    """The live view after this progress, as a terminal without colour shows it."""
    console = Console(file=StringIO(), width=100, force_terminal=False, color_system=None)
    view = LiveView(console, language().load_text(FLOW, path="f.yaml", directory=Path()))
    for one in progress:
        view.notice(one)
    with console.capture() as captured:
        console.print(view)
    return captured.get()


RUNNING, SUCCEEDED, FAILED = StepStatus.RUNNING, StepStatus.SUCCEEDED, StepStatus.FAILED


def test_steps_to_come_are_shown_by_name_without_a_clock() -> None:
    assert [row.split() for row in shown().splitlines()] == [["·", "Load", "it"], ["·", "sum"]]


def test_a_step_that_is_over_has_its_mark_and_time() -> None:
    text = shown(AttemptStarted(attempt=attempt("load", RUNNING)), StepEnded(attempt=attempt("load", SUCCEEDED)))
    assert text.splitlines()[0].split() == ["✓", "Load", "it", "250", "ms"]


def test_a_failed_step_says_where_and_why() -> None:
    text = shown(
        AttemptStarted(attempt=attempt("load", RUNNING)), StepEnded(attempt=attempt("load", FAILED, error="no [luck]"))
    )
    assert "✗" in text
    assert "line 3: no [luck]" in text


def test_a_step_that_is_tried_again_says_so() -> None:
    failed = AttemptEnded(attempt=attempt("load", FAILED, error="busy"), retrying=True)
    assert "attempt 1 failed, trying again: busy" in shown(AttemptStarted(attempt=attempt("load", RUNNING)), failed)


def test_items_are_counted() -> None:
    seen: list[Progress] = []
    for item in range(3):
        seen.append(AttemptStarted(attempt=attempt("load", RUNNING, item=item)))
        seen.append(AttemptEnded(attempt=attempt("load", SUCCEEDED, item=item), retrying=False))
    assert "3 items done" in shown(*seen)
    assert "3 items" in shown(*seen, StepEnded(attempt=attempt("load", SUCCEEDED)))


def test_a_finally_step_gets_its_row_when_it_begins() -> None:
    assert "tidy" in shown(AttemptStarted(attempt=attempt("tidy", RUNNING)))


@pytest.mark.parametrize("text", ["[red]markup[/] stays", "plain", ""])
def test_lines_of_output_are_shown_as_they_are(text: str) -> None:
    stream = StringIO()
    PlainView(Console(file=stream, width=100)).notice(line(text))
    assert stream.getvalue().rstrip("\n") == f"load │ {text}"
