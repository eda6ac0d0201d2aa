"""``stepbox validate``: is a flow definition right?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.errors import InvalidCallError, InvalidFlowError, Problem
from ui.cli.doors import leave
from ui.cli.options import STANDARD_INPUT, Output, OutputOption, once, read_flow
from ui.cli.show import err, literal, out, print_json, show_problems

if TYPE_CHECKING:
    from flows.values import Json

INVALID = 2


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Flow files; `-` reads standard input.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Check flow files and report every problem of each, with its place and its fix.

    Nothing is run. Exits with 2 where any file has a problem.

    Example: `stepbox validate flows/*.yaml`
    """

    def work() -> int:
        once(*files)
        return _validate(files, output)

    leave(work, output)


def _validate(files: list[Path], output: Output) -> int:
    from engine.bootstrap import language
    from engine.documents import problem_document

    documents: list[Json] = []
    count = 0
    for file in files:
        problems: tuple[Problem, ...] = ()
        shown = "<stdin>" if file == STANDARD_INPUT else str(file)
        summary = None
        try:
            text = read_flow(file)
            definition = language().load_text(text.text, path=text.path, directory=text.directory or Path())
            summary = f"flow {definition.flow.flow}, {len(definition.flow.steps)} steps"
        except InvalidFlowError as invalid:
            problems = invalid.problems
        except InvalidCallError as unreadable:
            fix = unreadable.fix or "check the path"
            problem = Problem(path=shown, line=1, column=1, code="unreadable_file", message=unreadable.message, fix=fix)
            problems = (problem,)
        count += len(problems)
        documents.append({"file": shown, "valid": not problems, "problems": [problem_document(p) for p in problems]})
        if output is Output.TEXT:
            show_problems(problems)
            if summary is not None:
                out().print(f"[green]✓[/] {literal(shown)}: {summary}")
    if output is Output.JSON:
        print_json(documents)
    elif count:
        err().print(f"[red]{count} {'problem' if count == 1 else 'problems'}[/]")
    return INVALID if count else 0
