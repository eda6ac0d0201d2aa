"""Text with expressions in it: where ``${{ }}`` begins and ends, and the tokens of what is between.

``$${{`` stands for a literal ``${{``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flows.values import Json

OPENING = "${{"
_ESCAPED = "$${{"

_SECRET = re.compile(r"secrets\.(?P<name>[a-z][a-z0-9_]*)")
_TOKEN = re.compile(
    r"""
      (?P<space>\s+|//[^\n]*)
    | (?P<string>[bBrR]{0,2}(?:\"{3}(?:\\.|(?!\"{3}).)*\"{3}|'{3}(?:\\.|(?!'{3}).)*'{3}
                              |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    | (?P<number>0x[0-9a-fA-F]+[uU]?|[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+(?:[eE][-+]?[0-9]+|[uU])?
               |\.[0-9]+(?:[eE][-+]?[0-9]+)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token of CEL. ``kind`` is string, number, name or sign; ``start`` counts characters from 0."""

    kind: str
    text: str
    start: int


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of a template: literal text, or an expression (without its braces) that begins at ``start``."""

    text: str
    start: int
    expression: bool


class TemplateError(ValueError):
    """The text isn't a template; ``offset`` counts characters from 0, ``fix`` says what to write."""

    def __init__(self, message: str, *, offset: int, fix: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.fix = fix


def tokens(text: str, start: int = 0, *, closed: bool = False) -> tuple[list[Token], int]:
    """The tokens from ``start`` on, and where they end: at the end of the text or, if ``closed``, after ``}}``.

    Raises:
        TemplateError: a character can't begin a token, or the closing ``}}`` is missing.
    """
    found: list[Token] = []
    position, depth = start, 0
    while position < len(text):
        if closed and depth == 0 and text.startswith("}}", position):
            return found, position + 2
        match = _TOKEN.match(text, position)
        if match is None:
            message = f"`{text[position]}` can't stand here"
            fix = "close the quote" if text[position] in "\"'" else "remove it, or put the text in quotes"
            raise TemplateError(message, offset=position, fix=fix)
        if match.lastgroup != "space":
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            found.append(Token(kind=str(match.lastgroup), text=match[0], start=position))
        position = match.end()
    if closed:
        raise TemplateError("`${{` is not closed", offset=start - len(OPENING), fix="close it with `}}`")
    return found, position


def split_template(text: str) -> list[Piece]:
    """The pieces of the text in order; one literal piece where there is no expression in it.

    Raises:
        TemplateError: an expression is empty, isn't closed, or holds a character that CEL doesn't know.
    """
    pieces: list[Piece] = []
    literal: list[str] = []
    position = begin = 0
    while (found := text.find(OPENING, position)) >= 0:
        if text.startswith(_ESCAPED, found - 1) and found > position:
            literal.append(text[position : found - 1] + OPENING)
            position = found + len(OPENING)
            continue
        literal.append(text[position:found])
        if joined := "".join(literal):
            pieces.append(Piece(text=joined, start=begin, expression=False))
        start = found + len(OPENING)
        inner, position = tokens(text, start, closed=True)
        if not inner:
            raise TemplateError("`${{ }}` is empty", offset=found, fix="write an expression between the braces")
        pieces.append(Piece(text=text[start : position - 2], start=start, expression=True))
        literal, begin = [], position
    literal.append(text[position:])
    if (joined := "".join(literal)) or not pieces:
        pieces.append(Piece(text=joined, start=begin, expression=False))
    return pieces


def secret_of(piece: Piece) -> str | None:
    """The secret whose value a piece stands for: ``secrets.NAME`` and nothing else; None for any other."""
    match = _SECRET.fullmatch(piece.text.strip()) if piece.expression else None
    return match["name"] if match is not None else None


def condition_source(text: str) -> Piece:
    """The CEL of a condition: the text itself, or what is between the ``${{ }}`` around all of it.

    Raises:
        TemplateError: it is empty, or ``${{ }}`` isn't around all of it.
    """
    if OPENING not in text:
        if not tokens(text)[0]:
            raise TemplateError("the condition is empty", offset=0, fix="write a condition, or leave the key out")
        return Piece(text=text, start=0, expression=True)
    expressions = [piece for piece in split_template(text) if piece.expression or piece.text.strip()]
    if len(expressions) != 1 or not expressions[0].expression:
        fix = "write the whole condition as one expression, without ${{ }}"
        raise TemplateError("a condition can't mix text and expressions", offset=0, fix=fix)
    return expressions[0]


def texts(value: Json) -> Iterator[str]:
    """Every text in a JSON value that has an expression in it, at any depth; keys of mappings have none."""
    if isinstance(value, str):
        if OPENING in value:
            yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def is_wired(value: Json) -> bool:
    """Whether there is an expression anywhere in a JSON value."""
    return any(True for _ in texts(value))
