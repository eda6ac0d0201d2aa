"""Options that several commands share, and how their values are read."""

import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from flows.errors import InvalidCallError

if TYPE_CHECKING:
    from engine.service import FlowText
    from flows.values import Json

Value = TypeVar("Value")

STANDARD_INPUT = Path("-")
MAX_INPUTS = 10_000_000
"""Bytes of a file of inputs."""
MAX_CODE = 1_000_000
"""Bytes of a file of code; of that, an execution takes as much as its limits say."""


class Output(StrEnum):
    """How a command answers on standard output."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="`text` for people, `json` for exactly one JSON document.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, or enough of its beginning.")]
InputOption = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", metavar="NAME=VALUE", help="An input; repeat it for more."),
]
InputsOption = Annotated[
    Path | None,
    typer.Option("--inputs", metavar="FILE.json", help="Inputs as a JSON object; `-` reads standard input."),
]


def _show_version(show: bool) -> None:
    if show:
        from importlib.metadata import version as version_of

        typer.echo(f"stepbox {version_of('stepbox')}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Automations in YAML, whose every code step runs in its own single-use sandbox."""


def split_inputs(pairs: list[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` pairs as a mapping.

    Raises:
        InvalidCallError: a pair has no name or no ``=``, or a name comes twice.
    """
    inputs: dict[str, str] = {}
    for pair in pairs or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise InvalidCallError(f"-i {pair!r} is not NAME=VALUE", fix="write it as -i name=value")
        if name in inputs:
            raise InvalidCallError(f"input '{name}' is given twice", fix="give it once")
        inputs[name] = value
    return inputs


def once(*paths: Path | None) -> None:
    """Make sure that not more than one of the paths is standard input.

    Raises:
        InvalidCallError: more are.
    """
    if sum(path == STANDARD_INPUT for path in paths) > 1:
        raise InvalidCallError("standard input can be read only once", fix="give `-` once, and files for the rest")


def read_inputs(path: Path | None) -> "dict[str, Json]":
    """The JSON object in a file, or on standard input for ``-``; empty for None.

    Raises:
        InvalidCallError: the file can't be read, is too large or is not one JSON object.
    """
    if path is None:
        return {}
    from flows.inputs import InvalidInputError, parse_json

    try:
        inputs = parse_json(_within(MAX_INPUTS, path))
    except InvalidInputError as problem:
        raise InvalidInputError(f"{path}: {problem.message}", fix=problem.fix) from problem
    except ValueError as problem:
        raise InvalidCallError(f"{path} is not JSON: {problem}", fix="give a JSON object of inputs") from problem
    if not isinstance(inputs, Mapping):
        raise InvalidCallError(f"{path} is not a JSON object", fix='write it as {"name": value, …}')
    return dict(inputs)


def read_code(path: Path) -> str:
    """The code in a file, or on standard input for ``-``.

    Raises:
        InvalidCallError: it can't be read, is too large or is not UTF-8.
    """
    try:
        return _within(MAX_CODE, path).decode()
    except UnicodeDecodeError as problem:
        raise InvalidCallError(f"{path} is not UTF-8 text: {problem}", fix="save it as UTF-8") from problem


def parsed(option: str, parse: Callable[[object], Value], text: str) -> Value:
    """The value of an option. Raises :class:`InvalidCallError` where the text is none."""
    try:
        return parse(text)
    except ValueError as problem:
        raise InvalidCallError(f"{option} {text}: {problem}", fix=f"see --help for {option}") from problem


def read_flow(path: Path) -> "FlowText":
    """The flow in a file, or on standard input for ``-``. What is too large is left to the language to refuse.

    Raises:
        InvalidCallError: it can't be read.
    """
    from engine.service import FlowText
    from flows.reader import MAX_TEXT

    text = _read(path, limit=MAX_TEXT)
    if path == STANDARD_INPUT:
        return FlowText(text=text, path="<stdin>", directory=Path.cwd())
    return FlowText(text=text, path=str(path), directory=path.parent)


def _within(limit: int, path: Path) -> bytes:
    content = _read(path, limit=limit)
    if len(content) > limit:
        raise InvalidCallError(f"{path} is larger than {limit:,} bytes", fix="make it smaller")
    return content


def _read(path: Path, *, limit: int) -> bytes:
    from engine.files import read_file

    try:
        return sys.stdin.buffer.read(limit + 1) if path == STANDARD_INPUT else read_file(path, limit=limit)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise InvalidCallError(f"can't read {path}: {reason}", fix="check the path") from problem
