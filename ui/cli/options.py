"""Options that several commands share, and how their values are read."""

import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer

from flows.errors import InvalidCallError
from flows.values import Json


class Output(StrEnum):
    """How a command answers on standard output."""

    TEXT = "text"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="`text` for people, `json` for exactly one JSON document.")
]
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


def read_inputs(path: Path | None) -> dict[str, Json]:
    """The JSON object in a file, or on standard input for ``-``; empty for None.

    Raises:
        InvalidCallError: the file can't be read or is not one JSON object.
    """
    if path is None:
        return {}
    try:
        inputs = json.loads(read_text(path))
    except ValueError as problem:
        raise InvalidCallError(f"{path} is not JSON: {problem}", fix="give a JSON object of inputs") from problem
    if not isinstance(inputs, Mapping):
        raise InvalidCallError(f"{path} is not a JSON object", fix='write it as {"name": value, …}')
    return dict(inputs)


def read_text(path: Path) -> bytes:
    """What a file holds, or standard input for ``-``.

    Raises:
        InvalidCallError: it can't be read.
    """
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise InvalidCallError(f"can't read {path}: {reason}", fix="check the path") from problem
