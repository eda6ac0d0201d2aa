"""The live view of a run, on standard error: moving on a terminal, plain lines elsewhere."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from engine.progress import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CodeAdmitted,
    LineLogged,
    NoObserver,
    Notice,
    Observer,
    Progress,
    RunEnded,
    RunStarted,
    StepEnded,
)
from engine.records import StepRun
from flows.definition import Definition
from flows.values import StepStatus
from ui.cli.show import duration, err, plain, styled, write
from ui.cli.streams import OutputError

_log = logging.getLogger(__name__)

QUEUED = "queued for a code slot"


@contextmanager
def progress_view(definition: Definition | None, *, lines: bool, quiet: bool = False) -> Iterator[Observer]:
    """Show a run while it goes on.

    On a terminal: one row a step, its clock running, with the code's output scrolling above. Elsewhere: a line for each
    step that ends and for each line of output where ``lines``, else nothing. Nothing anywhere where ``quiet``.
    """
    console = err()
    if quiet:
        yield NoObserver()
    elif console.is_terminal:
        view = LiveView(console, definition)
        with Live(view, console=console, refresh_per_second=12, transient=False):
            yield view
    elif lines:
        yield PlainView(console)
    else:
        yield NoObserver()


class Watch:
    """Passes progress on to a view whose failure must not end the run.

    ``run_id`` is the run's, once it has begun; ``lost`` says why output of the code could not be written.
    """

    def __init__(self, view: Observer) -> None:
        self.run_id: str | None = None
        self.lost: OutputError | None = None
        self._view: Observer = view

    def notice(self, progress: Progress) -> None:
        if isinstance(progress, RunStarted):
            self.run_id = progress.run.id
        try:
            self._view.notice(progress)
        except OutputError as problem:
            self._view = NoObserver()
            self.lost = problem
        except Exception:  # noqa: BLE001 - whatever it is, the run goes on
            self._view = NoObserver()
            _log.exception("progress is no longer shown")


class CodeView:
    """Passes the output of code on as it comes."""

    def notice(self, progress: Progress) -> None:
        match progress:
            case LineLogged(line=line):
                write(plain(line.line) + "\n", to=line.stream)
            case Notice(message=message):
                write(plain(message) + "\n", to="stderr")
            case _:
                pass


class PlainView:
    """A line for each thing that happens."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def notice(self, progress: Progress) -> None:
        line = describe(progress)
        if line is not None:
            self._console.print(line)


class LiveView:
    """A row for each step. Rendered by rich a few times a second."""

    def __init__(self, console: Console, definition: Definition | None) -> None:
        self._console = console
        steps = () if definition is None else definition.flow.steps
        self._rows = {step.id: _Row(step.name or step.id) for step in steps}
        self._over = False
        named = {} if definition is None else definition.steps
        self._names = {step_id: step.name or step_id for step_id, step in named.items()}

    def notice(self, progress: Progress) -> None:
        match progress:
            case AttemptStarted(attempt=attempt):
                self._row(attempt).started(attempt)
            case CodeAdmitted(attempt=attempt):
                self._row(attempt).admitted(attempt)
            case AttemptEnded(attempt=attempt, retrying=retrying):
                self._row(attempt).ended(attempt, retrying=retrying)
            case StepEnded(attempt=attempt):
                self._row(attempt).over(attempt)
            case LineLogged() | Notice():
                line = describe(progress)
                if line is not None:
                    self._console.print(line)
            case RunEnded():
                self._over = True
            case RunStarted() | CallEnded():
                pass

    def _row(self, attempt: StepRun) -> "_Row":
        # The steps of on_failure and finally get their rows when they begin.
        if attempt.step_id not in self._rows:
            self._rows[attempt.step_id] = _Row(self._names.get(attempt.step_id, attempt.step_id))
        return self._rows[attempt.step_id]

    def __rich__(self) -> RenderableType:
        # Rendered in a thread of rich's, while progress goes on.
        rows = list(self._rows.values())
        room = max(self._console.height - 2, 1)
        table = Table.grid(padding=(0, 2, 0, 0))
        if self._over or len(rows) <= room:
            shown = rows
        else:
            shown = _most_telling(rows, room)
            for _column in range(3):
                table.add_column(no_wrap=True)
            table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
            table.expand = True
        for row in shown:
            table.add_row(row.mark(), row.name, row.clock(), row.note())
        if len(shown) == len(rows):
            return table
        return Group(table, Text(f"… {len(rows) - len(shown)} more", style="dim"))


def _most_telling(rows: "list[_Row]", room: int) -> "list[_Row]":
    """As many rows as there is room for, in their order: the running ones, those that ended last, those to come."""
    running = [row for row in rows if row.began is not None and row.final is None]
    ended = sorted((row for row in rows if row.final is not None), key=lambda row: row.ended_at, reverse=True)
    to_come = [row for row in rows if row.began is None and row.final is None]
    chosen = {id(row) for row in (*running, *ended, *to_come)[:room]}
    return [row for row in rows if id(row) in chosen]


class _Row:
    def __init__(self, name: str) -> None:
        self.name = Text(plain(name))
        self.final: StepRun | None = None
        self.began: float | None = None
        self.ended_at = 0.0
        self._attempt = 0
        self._items = 0
        self._items_done = 0
        self._retrying: str | None = None
        self._waits: str | None = None
        self._queued: set[str] = set()
        self._spinner = Spinner("dots", style="cyan")

    def started(self, attempt: StepRun) -> None:
        self.began = monotonic() if self.began is None else self.began
        self._attempt = attempt.attempt
        self._retrying = self._waits = None
        if attempt.item is not None and attempt.attempt == 1:
            self._items += 1
        if attempt.queued:
            self._queued.add(attempt.id)

    def admitted(self, attempt: StepRun) -> None:
        self._queued.discard(attempt.id)

    def ended(self, attempt: StepRun, *, retrying: bool) -> None:
        self._queued.discard(attempt.id)
        if retrying:
            self._retrying = attempt.error.message if attempt.error else attempt.status.value
        elif attempt.status is StepStatus.WAITING:
            self._waits = attempt.error.message if attempt.error else attempt.status.value
        elif attempt.item is not None:
            self._items_done += 1

    def over(self, attempt: StepRun) -> None:
        self.ended_at = monotonic()
        self.final = attempt

    def mark(self) -> RenderableType:
        if self.final is not None:
            return Text(styled(self.final.status).plain[0], style=styled(self.final.status).style)
        if self._waits is not None:
            return Text("…", style="yellow")
        return Text("·", style="bright_black") if self.began is None else self._spinner

    def clock(self) -> Text:
        if self.final is not None and self.began is not None:
            return Text(duration(self.final.duration), style="dim", justify="right")
        if self.began is not None:
            return Text(duration(monotonic() - self.began), style="cyan", justify="right")
        return Text("")

    def note(self) -> Text:
        if self.final is not None:
            return _ending(self.final, self._attempt, self._items_done)
        if self._retrying is not None:
            return Text(f"attempt {self._attempt} failed, trying again: {_first_line(self._retrying)}", style="yellow")
        if self._waits is not None:
            return Text(_first_line(self._waits), style="yellow")
        if self._items:
            queued = f", {len(self._queued)} queued for a code slot" if self._queued else ""
            return Text(f"{self._items_done} items done{queued}", style="dim")
        if self._queued:
            return Text(QUEUED, style="yellow")
        return Text(f"attempt {self._attempt}", style="yellow") if self._attempt > 1 else Text("")


def describe(progress: Progress) -> Text | None:  # noqa: PLR0911 - one for each kind of progress
    """Progress as one line of text, None where it isn't worth one."""
    match progress:
        case LineLogged(line=line):
            return Text.assemble(
                (f"{line.label} │ ", "cyan"), (plain(line.line), "dim" if line.stream == "stderr" else "")
            )
        case AttemptEnded(attempt=attempt, retrying=True):
            cause = _first_line(attempt.error.message if attempt.error else attempt.status.value)
            return Text(f"↻ {attempt.label}: attempt {attempt.attempt} {attempt.status}: {cause}", style="yellow")
        case AttemptEnded(attempt=attempt) if attempt.status is StepStatus.WAITING:
            cause = _first_line(attempt.error.message) if attempt.error else ""
            return Text.assemble(styled(attempt.status), f" {attempt.label} ", (cause, "yellow"))
        case AttemptStarted(attempt=attempt) if attempt.queued:
            return Text(f"… {attempt.label} {QUEUED}", style="yellow")
        case StepEnded(attempt=attempt):
            return Text.assemble(
                styled(attempt.status),
                f" {attempt.step_id} ",
                (duration(attempt.duration), "dim"),
                " ",
                _ending(attempt, 0, 0),
            )
        case Notice(message=message):
            return Text(plain(message), style="dim")
        case RunStarted() | RunEnded() | AttemptStarted() | CodeAdmitted() | AttemptEnded() | CallEnded():
            return None


def _ending(attempt: StepRun, attempts: int, items: int) -> Text:
    """What is worth saying of a step that is over."""
    if attempt.error is not None:
        line = f"line {attempt.error.line}: " if attempt.error.line else ""
        style = "bright_black" if attempt.status is StepStatus.SKIPPED else "red"
        return Text(line + _first_line(attempt.error.message), style=style)
    notes = []
    if attempt.attempt == 0 and not attempt.duration and attempt.status is StepStatus.SUCCEEDED:
        notes.append("not executed again")
    if items:
        notes.append(f"{items} items")
    if attempts > 1:
        notes.append(f"{attempts} attempts")
    if attempt.tool_calls:
        notes.append(f"{attempt.tool_calls} tool call{'s' if attempt.tool_calls > 1 else ''}")
    return Text(", ".join(notes), style="dim")


def _first_line(message: str) -> str:
    return plain(message.splitlines()[0]) if message else ""
