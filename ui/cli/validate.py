"""``stepbox validate``: is a flow definition right?"""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from engine.bootstrap import language
from flows.errors import InvalidCallError, InvalidFlowError, Problem
from flows.values import Json
from ui.cli.options import Output, OutputOption, read_text
from ui.cli.show import err, out, print_json, problem_document, show_problems

INVALID = 2


def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Flow files; `-` reads standard input.")],
    output: OutputOption = Output.TEXT,
) -> None:
    """Check flow files and report every problem of each, with its place and its fix.

    Nothing is run. Exits with 2 where any file has a problem.

    Example: `stepbox validate flows/*.yaml`
    """
    spoken = language()
    documents: list[Json] = []
    valid = True
    for file in files:
        problems: tuple[Problem, ...] = ()
        shown = "<stdin>" if str(file) == "-" else str(file)
        summary = None
        try:
            directory = Path.cwd() if str(file) == "-" else file.parent
            definition = spoken.load_text(read_text(file), path=shown, directory=directory)
            summary = f"flow {definition.flow.flow}, {len(definition.flow.steps)} steps"
        except InvalidFlowError as invalid:
            problems = invalid.problems
        except InvalidCallError as unreadable:
            fix = unreadable.fix or "check the path"
            problem = Problem(path=shown, line=1, column=1, code="unreadable_file", message=unreadable.message, fix=fix)
            problems = (problem,)
        valid = valid and not problems
        documents.append({"file": shown, "valid": not problems, "problems": [problem_document(p) for p in problems]})
        if output is Output.TEXT:
            show_problems(problems)
            if summary is not None:
                out().print(f"[green]✓[/] {escape(shown)}: {summary}")
    if output is Output.JSON:
        print_json(documents)
    elif not valid:
        count = sum(len(document["problems"]) for document in documents)
        err().print(f"[red]{count} {'problem' if count == 1 else 'problems'}[/]")
    raise typer.Exit(0 if valid else INVALID)
