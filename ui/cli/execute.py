"""``stepbox exec``: execute code by itself, in a sandbox, without a flow."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer
from rich.markup import escape

from engine.bootstrap import open_service
from engine.progress import LineLogged, NoObserver, Progress
from engine.service import Snippet, snippet_document
from flows.contracts import StepResult
from flows.errors import InvalidCallError
from flows.values import Json, StepStatus, parse_byte_size, parse_duration
from ui.cli.doors import leave
from ui.cli.options import InputOption, InputsOption, Output, OutputOption, read_inputs, read_text, split_inputs
from ui.cli.show import duration, err, out, print_json, styled

Value = TypeVar("Value")

LANGUAGES: dict[str, Literal["python", "javascript", "shell"]] = {
    "python": "python",
    "javascript": "javascript",
    "typescript": "javascript",
    "shell": "shell",
    "py": "python",
    "js": "javascript",
    "ts": "javascript",
    "sh": "shell",
    "bash": "shell",
}


class LineView:
    """Passes the code's output through as it comes."""

    def notice(self, progress: Progress) -> None:
        if isinstance(progress, LineLogged):
            (err() if progress.line.stream == "stderr" else out()).print(escape(progress.line.line))


def execute(
    language: Annotated[str, typer.Option("--language", "-l", help="python, javascript (or typescript), or shell.")],
    file: Annotated[
        Path, typer.Option("--file", "-f", metavar="FILE", help="The code; `-` reads standard input.")
    ] = Path("-"),
    network: Annotated[str, typer.Option(help="`none`, `full`, or `allow=host1,host2`.")] = "none",
    tool: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A tool the code may call; repeat it.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Such as 30s.")] = None,
    memory: Annotated[str | None, typer.Option(help="Such as 128MB.")] = None,
    input_: InputOption = None,
    inputs: InputsOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Execute code by itself in a single-use sandbox and give its result.

    The code is a function body: `inputs` holds the inputs, `return` gives the result.

    Example: `echo 'return sum(inputs["n"])' | stepbox exec -l python -i n=[1,2,3]`
    """

    async def work() -> int:
        snippet = Snippet(
            language=_language(language),
            code=_code(file),
            inputs={**read_inputs(inputs), **{name: _value(text) for name, text in split_inputs(input_).items()}},
            network=_network(network),
            tools=tool or [],
            timeout=None if timeout is None else _option("--timeout", parse_duration, timeout),
            memory=None if memory is None else _option("--memory", parse_byte_size, memory),
        )
        async with open_service() as service:
            outcome = await service.execute(snippet, LineView() if output is Output.TEXT else NoObserver())
        if output is Output.JSON:
            print_json(snippet_document(outcome))
        else:
            _show(outcome)
        return 0 if outcome.status is StepStatus.SUCCEEDED else 1

    leave(work, output)


def _show(outcome: StepResult) -> None:
    if outcome.status is not StepStatus.SUCCEEDED:
        console = err()
        console.print(styled(outcome.status), f"[dim]{duration(outcome.duration)}[/]")
        if outcome.error is not None:
            console.print(escape(outcome.error.traceback or outcome.error.message))
            if outcome.error.fix:
                console.print(f"[green]fix:[/] {escape(outcome.error.fix)}")
    elif outcome.result is not None:
        print_json(outcome.result)


def _language(name: str) -> Literal["python", "javascript", "shell"]:
    try:
        return LANGUAGES[name.lower()]
    except KeyError:
        raise InvalidCallError(
            f"--language {name} is not known", fix="use python, javascript, typescript or shell"
        ) from None


def _code(file: Path) -> str:
    try:
        return read_text(file).decode()
    except UnicodeDecodeError as problem:
        raise InvalidCallError(f"{file} is not UTF-8 text: {problem}", fix="save it as UTF-8") from problem


def _network(text: str) -> Literal["none", "full"] | tuple[str, ...]:
    if text == "none":
        return "none"
    if text == "full":
        return "full"
    kind, equals, hosts = text.partition("=")
    if kind != "allow" or not equals:
        raise InvalidCallError(f"--network {text} is not known", fix="use none, full or allow=host1,host2")
    return tuple(host.strip() for host in hosts.split(",") if host.strip())


def _value(text: str) -> Json:
    """JSON where the text is JSON, the text itself where it isn't."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _option(name: str, parse: Callable[[object], Value], text: str) -> Value:
    try:
        return parse(text)
    except ValueError as problem:
        raise InvalidCallError(f"{name} {text}: {problem}", fix=f"see stepbox exec --help for {name}") from problem
