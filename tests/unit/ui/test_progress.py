"""What a run looks like while it goes on, on a terminal and elsewhere."""

import threading
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from engine.bootstrap import language
from engine.progress import (
    AttemptEnded,
    AttemptStarted,
    CodeAdmitted,
    LineLogged,
    Progress,
    RunEnded,
    RunStarted,
    StepEnded,
)
from engine.records import LogLine, Run, StepRun
from flows.contracts import StepError
from flows.values import RunStatus, StepStatus
from ui.cli.progress import CodeView, LiveView, PlainView, Watch, describe

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = Run(
    id="run",
    workspace="w",
    flow="f",
    flow_version_id="v",
    status=RunStatus.RUNNING,
    created_at=NOW,
    inputs={},
)
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


def shown(*progress: Progress, flow: str = FLOW, height: int = 25) -> str:
    """The live view after this progress, as a terminal without colour shows it."""
    console = Console(file=StringIO(), width=100, height=height, force_terminal=False, color_system=None)
    view = LiveView(console, language().load_text(flow, path="f.yaml", directory=Path()))
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


MANY = "flow: f\nsteps:\n" + "".join(f"- {{id: s{n}, shell: 'true'}}\n" for n in range(200))


def test_the_running_steps_are_shown_where_there_is_no_room_for_all() -> None:
    seen: list[Progress] = []
    for number in range(150):
        seen.append(AttemptStarted(attempt=attempt(f"s{number}", RUNNING)))
        if number not in {3, 70}:
            seen.append(StepEnded(attempt=attempt(f"s{number}", FAILED, error="long " * 100)))
    *rows, rest = shown(*seen, flow=MANY, height=12).splitlines()
    assert [row.split()[1] for row in rows] == ["s3", "s70", *(f"s{number}" for number in range(142, 150))]
    assert rest == "… 190 more"


def test_all_steps_are_shown_at_the_end() -> None:
    ended = RunEnded(run=RUN)
    rows = shown(ended, flow=MANY, height=12).splitlines()
    assert [row.split()[1] for row in rows] == [f"s{number}" for number in range(200)]


def test_rows_may_come_while_the_view_is_drawn() -> None:
    view = LiveView(Console(file=StringIO()), language().load_text(FLOW, path="f.yaml", directory=Path()))
    drawing = threading.Event()
    problems: list[BaseException] = []

    def draw() -> None:
        try:
            while not drawing.is_set():
                view.__rich__()
        except RuntimeError as problem:
            problems.append(problem)

    thread = threading.Thread(target=draw)
    thread.start()
    for number in range(3000):
        view.notice(AttemptStarted(attempt=attempt(f"more{number}", RUNNING)))
    drawing.set()
    thread.join()
    assert problems == []


def test_a_name_commands_no_terminal() -> None:
    flow = 'flow: f\nsteps: [{id: a, name: "\\e[2J", shell: ls}]'
    assert shown(flow=flow).split() == ["·", r"\x1b[2J"]


def test_a_view_that_fails_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        seen = 0

        def notice(self, progress: Progress) -> None:
            self.seen += 1
            raise RuntimeError("no view")

    broken = Broken()
    watch = Watch(broken)
    watch.notice(RunStarted(run=RUN))
    watch.notice(line("x"))
    assert (watch.run_id, broken.seen) == ("run", 1)
    assert "no view" in caplog.text


@pytest.mark.parametrize("text", ["[red]markup[/] stays", "plain", "", ":smile:"])
def test_lines_of_output_are_shown_as_they_are(text: str) -> None:
    stream = StringIO()
    PlainView(Console(file=stream, width=100)).notice(line(text))
    assert stream.getvalue().rstrip("\n") == f"load │ {text}"


def test_what_commands_a_terminal_is_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    stream = StringIO()
    view = PlainView(Console(file=stream, width=100))
    view.notice(line("\x1b[2J\x9b"))
    view.notice(StepEnded(attempt=attempt("sum", FAILED, error="\x1b]0;x\x07")))
    CodeView().notice(line("\x1b[2J\tx"))
    assert not {"\x1b", "\x9b", "\x07"} & set(stream.getvalue())
    assert r"load │ \x1b[2J\x9b" in stream.getvalue()
    assert r"line 3: \x1b]0;x\x07" in stream.getvalue()
    assert capsys.readouterr().err == "\\x1b[2J\tx\n"


def test_code_that_queues_says_so_until_it_has_its_slot() -> None:
    waits = replace(attempt("load", RUNNING), code_workspace="default")
    begun = replace(waits, code_began_at=NOW)
    assert "queued for a code slot" in shown(AttemptStarted(attempt=waits))
    assert "queued" not in shown(AttemptStarted(attempt=waits), CodeAdmitted(attempt=begun))
    line = describe(AttemptStarted(attempt=waits))
    assert line is not None
    assert line.plain == "… load queued for a code slot"
