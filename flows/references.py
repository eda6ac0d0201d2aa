"""What an expression refers to, found without evaluating it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from flows.templates import Token, tokens


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESERVED = _words(
    "as break const continue else false for function if import in let loop package namespace null return true var void "
    "while"
)
"""Words of CEL that can't be names."""

_LITERALS = frozenset({"true", "false", "null", "in"})
_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_CORE = _words(
    "has size int uint double string bytes bool timestamp duration type dyn contains startsWith endsWith matches "
    "max min sum getFullYear getMonth getDayOfYear getDayOfMonth getDate getDayOfWeek getHours getMinutes getSeconds "
    "getMilliseconds"
)
_EXTENSIONS = _words(
    "base64.decode base64.encode charAt distinct first flatten indexOf join last lastIndexOf lists.range lowerAscii "
    "math.abs math.bitAnd math.bitNot math.bitOr math.bitShiftLeft math.bitShiftRight math.bitXor math.ceil math.floor "
    "math.greatest math.isFinite math.isInf math.isNaN math.least math.round math.sign math.sqrt math.trunc replace "
    "reverse sets.contains sets.equivalent sets.intersects slice sort split strings.quote substring trim "
    "upperAscii"
)
FUNCTIONS = _MACROS | _CORE | _EXTENSIONS
"""Every function that an expression may call, by its full name."""
NAMESPACES = frozenset(name.partition(".")[0] for name in FUNCTIONS if "." in name)

_LONGEST_INDEX = 9
"""Digits."""


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """An index that is known only when the expression is evaluated: the value at this path."""

    path: tuple[str | int, ...]


Part = str | int | Lookup


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A name and what is selected of it: ``steps.a.result[0].x`` is ``("steps", "a", "result", 0, "x")``.

    It ends before an index that is more than a name with what is selected of it, or that a macro binds. ``offset``
    counts characters from 0.
    """

    path: tuple[Part, ...]
    offset: int


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function that is called, by its full name: ``size``, ``math.greatest``."""

    name: str
    offset: int


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What is known of an expression without evaluating it.

    ``path`` is set where the expression is nothing but one reference. ``growth`` bounds how many times larger than
    what it reads the result can be made by its ``map`` macros. ``nesting`` is how deep its macros stand in one another,
    and ``collects`` says that one of them makes a list. ``literal`` bounds the length of a list that is written out,
    ``sums`` how many lists can be put together before a macro reads them, and ``additions`` how often ``+`` stands in
    it. ``repeated`` are the references that a macro evaluates for each item.
    """

    references: tuple[Reference, ...]
    calls: tuple[Call, ...]
    path: tuple[Part, ...] | None
    growth: int
    nesting: int
    collects: bool
    literal: int
    sums: int
    additions: int
    repeated: tuple[Reference, ...]


def analyse(source: str) -> Analysis:
    """Find the references and calls of one CEL expression.

    Raises:
        flows.templates.TemplateError: the text has a character that CEL doesn't know.
    """
    found, _ = tokens(source)
    partners = _partners(found)
    macros = dict(_macros(found, partners))
    references: list[Reference] = []
    calls: list[Call] = []
    path: tuple[Part, ...] | None = None
    for position, token in enumerate(found):
        if token.kind != "name" or token.text in _LITERALS:
            continue
        member = position > 0 and found[position - 1].text == "."
        if _text(found, position + 1) == "(":
            name = token.text
            owner = found[position - 2] if member and position > 1 else None
            if owner is not None and owner.text in NAMESPACES and not _is_member(found, position - 2):
                name = f"{owner.text}.{name}"
            calls.append(Call(name=name, offset=token.start))
        elif not member and not _bound(position, token.text, macros):
            reference, end = _reference(found, position, macros)
            if position == 0 and end == len(found):
                path = reference.path
            if not (token.text in NAMESPACES and len(reference.path) == 1 and _text(found, position + 1) == "."):
                references.append(reference)
    nesting = max((sum(begin <= each < end for begin, (end, _) in macros.items()) for each in macros), default=0)
    sums = [position for position, token in enumerate(found) if token.text == "+"]
    return Analysis(
        references=tuple(references),
        calls=tuple(calls),
        path=path,
        growth=_growth(found, macros),
        nesting=nesting,
        collects=any(found[begin - 1].text in {"map", "filter"} for begin in macros),
        literal=sum(token.text == "," for token in found) + 1,
        additions=len(sums),
        repeated=tuple(
            reference
            for reference in references
            if any(found[b].start < reference.offset < _start(found, e) for b, (e, _) in macros.items())
        ),
        sums=sum(nesting > 1 or not any(b < each < e for b, (e, _) in macros.items()) for each in sums) + 1,
    )


def _start(found: list[Token], position: int) -> int:
    return found[position].start if position < len(found) else found[-1].start + 1


def _text(found: list[Token], position: int) -> str:
    return found[position].text if position < len(found) else ""


def _is_member(found: list[Token], position: int) -> bool:
    return position > 0 and found[position - 1].text == "."


def _partners(found: list[Token]) -> dict[int, int]:
    """The position of each closing bracket by that of its opening one; an open one ends at the end."""
    partners: dict[int, int] = {}
    stack: list[int] = []
    for position, token in enumerate(found):
        if token.kind == "sign" and token.text in "([{":
            stack.append(position)
        elif token.kind == "sign" and token.text in ")]}" and stack:
            partners[stack.pop()] = position
    return partners | dict.fromkeys(stack, len(found))


def _macros(found: list[Token], partners: Mapping[int, int]) -> Iterator[tuple[int, tuple[int, str]]]:
    """Each macro call: the position of its parenthesis, that of the closing one, and the name it binds."""
    for position, token in enumerate(found):
        if (
            token.text in _MACROS
            and _is_member(found, position)
            and _text(found, position + 1) == "("
            and position + 3 < len(found)
            and found[position + 2].kind == "name"
            and found[position + 3].text == ","
        ):
            yield position + 1, (partners[position + 1], found[position + 2].text)


def _bound(position: int, name: str, macros: Mapping[int, tuple[int, str]]) -> bool:
    return any(begin < position < end and bound == name for begin, (end, bound) in macros.items())


def _reference(found: list[Token], position: int, macros: Mapping[int, tuple[int, str]]) -> tuple[Reference, int]:
    """The reference that begins at a token, and the token behind it."""
    path: list[Part] = [found[position].text]
    following = position + 1
    while True:
        sign = _text(found, following)
        if sign == "." and following + 1 < len(found) and found[following + 1].kind == "name":
            if _text(found, following + 2) == "(":
                break
            path.append(found[following + 1].text)
            following += 2
        elif sign == "[":
            part, end = _index(found, following + 1, macros)
            if part is None or _text(found, end) != "]":
                break
            path.append(part)
            following = end + 1
        else:
            break
    return Reference(path=tuple(path), offset=found[position].start), following


def _index(found: list[Token], position: int, macros: Mapping[int, tuple[int, str]]) -> tuple[Part | None, int]:
    """What stands in square brackets, and the token behind it; None where that is more than an index of a reference."""
    key = found[position] if position < len(found) else None
    if key is None:
        return None, position
    if key.kind == "string" and key.text[0] in "\"'" and "\\" not in key.text and len(key.text) > 1:
        return key.text.strip(key.text[0]), position + 1
    if key.kind == "number" and key.text.isdigit() and len(key.text) <= _LONGEST_INDEX:
        return int(key.text), position + 1
    if key.kind == "name" and key.text not in RESERVED and not _bound(position, key.text, macros):
        reference, end = _reference(found, position, macros)
        parts = tuple(part for part in reference.path if not isinstance(part, Lookup))
        if len(parts) == len(reference.path):
            return Lookup(path=parts), end
    return None, position


def _growth(found: list[Token], macros: Mapping[int, tuple[int, str]]) -> int:
    growth = 1
    for begin, (end, _name) in macros.items():
        if found[begin - 1].text == "map":
            copies = sum(found[position].text in {"+", ","} for position in range(begin + 3, end))
            growth *= copies + 1
    return growth
