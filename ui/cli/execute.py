"""``stepbox exec``: execute code by itself, in a sandbox, without a flow."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.errors import InvalidCallError
from ui.cli.artifacts import save_artifacts
from ui.cli.doors import leave
from ui.cli.options import (
    InputOption,
    InputsOption,
    Output,
    OutputOption,
    once,
    parsed,
    read_code,
    read_inputs,
    split_inputs,
)
from ui.cli.show import duration, err, literal, print_json, print_output, styled

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from engine.service import Snippet
    from flows.contracts import StepResult
    from flows.values import Json

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


def execute(
    language: Annotated[str, typer.Option("--language", "-l", help="python, javascript (or typescript), or shell.")],
    argument: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="The code; left out, or `-`: standard input.")
    ] = None,
    option: Annotated[Path | None, typer.Option("--file", "-f", metavar="FILE", help="The same, as an option.")] = None,
    network: Annotated[str, typer.Option(help="`none`, `full`, or `allow=host1,host2`.")] = "none",
    tool: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A tool the code may call; repeat it.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Such as 30s.")] = None,
    memory: Annotated[str | None, typer.Option(help="Such as 128MB.")] = None,
    artifacts: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files that the code leaves there, replacing others.")
    ] = None,
    input_: InputOption = None,
    inputs: InputsOption = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """Execute code by itself in a single-use sandbox and give its result.

    The code is a function body: `inputs` holds the inputs, `return` gives the result.

    Example: `echo 'return sum(inputs["n"])' | stepbox exec -l python -i n=[1,2,3]`
    """

    def work() -> "Coroutine[None, None, int]":
        from engine.service import Snippet
        from flows.values import parse_byte_size, parse_duration

        if argument is not None and option is not None:
            raise InvalidCallError("the code is given twice", fix="give it as an argument or by --file")
        file = argument or option or Path("-")
        once(file, inputs)
        values = {name: _value(text) for name, text in split_inputs(input_).items()}
        snippet = Snippet(
            language=_language(language),
            code=read_code(file),
            inputs={**read_inputs(inputs), **values},
            network=_network(network),
            tools=tool or [],
            timeout=None if timeout is None else parsed("--timeout", parse_duration, timeout),
            memory=None if memory is None else parsed("--memory", parse_byte_size, memory),
        )
        return _execute(snippet, output, artifacts)

    leave(work, output)


async def _execute(snippet: "Snippet", output: Output, artifacts: Path | None) -> int:
    from engine.bootstrap import open_service
    from engine.documents import snippet_document
    from engine.progress import NoObserver
    from ui.cli.progress import CodeView, Watch

    async with open_service() as service:
        watch = Watch(CodeView() if output is Output.TEXT else NoObserver())
        outcome = await service.execute(snippet, watch)
        wanted = {one.path: one for one in outcome.artifacts}
        saved = [] if artifacts is None else await save_artifacts(service, wanted, artifacts, overwrite=True)
    if watch.lost is not None:
        raise watch.lost
    if output is Output.JSON:
        print_json(snippet_document(outcome))
    else:
        _show(outcome)
        for path in saved:
            err().print(f"[dim]wrote {literal(str(path))}[/]")
    return 0 if outcome.status == "succeeded" else 1


def _show(outcome: "StepResult") -> None:
    if outcome.status != "succeeded":
        console = err()
        console.print(styled(outcome.status), f"[dim]{duration(outcome.duration)}[/]")
        if outcome.error is not None:
            console.print(literal(outcome.error.traceback or outcome.error.message))
            if outcome.error.fix:
                console.print(f"[green]fix:[/] {literal(outcome.error.fix)}")
    elif outcome.result is not None:
        print_output(outcome.result)


def _language(name: str) -> Literal["python", "javascript", "shell"]:
    try:
        return LANGUAGES[name.lower()]
    except KeyError:
        raise InvalidCallError(
            f"--language {name} is not known", fix="use python, javascript, typescript or shell"
        ) from None


def _network(text: str) -> Literal["none", "full"] | tuple[str, ...]:
    if text == "none":
        return "none"
    if text == "full":
        return "full"
    kind, equals, hosts = text.partition("=")
    if kind != "allow" or not equals:
        raise InvalidCallError(f"--network {text} is not known", fix="use none, full or allow=host1,host2")
    return tuple(host.strip() for host in hosts.split(",") if host.strip())


def _value(text: str) -> "Json":
    """JSON where the text is JSON, the text itself where it isn't."""
    from flows.inputs import parse_json

    try:
        return parse_json(text)
    except ValueError:
        return text
