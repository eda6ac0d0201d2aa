"""The inputs of a flow: JSON Schemas by name, of which a ``default`` makes one optional."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import NoReturn

from flows.contracts import Finding
from flows.errors import InvalidCallError
from flows.model import Flow
from flows.names import name_finding
from flows.schemas import check_schema, mismatches
from flows.suggestions import instead, listing
from flows.values import Json

MAX_DEPTH = 100
"""How deep an input may be nested."""
_MAX_INTEGER = 2**63
_LONGEST_INTEGER = 20
"""Characters of an integer of 64 bit, with its sign."""


class InvalidInputError(InvalidCallError):
    """Inputs that a flow can't be run with: all that is wrong with them, one line each."""

    code = "invalid_input"


def validate_inputs(flow: Flow, given: Mapping[str, Json]) -> dict[str, Json]:
    """The inputs of a run: those given, and the defaults of the others.

    Raises:
        InvalidInputError: a name is unknown, a value doesn't match its schema, or a required input is missing.
    """
    wrong: list[str] = []
    for name in given:
        if name not in flow.inputs:
            known = f"known: {listing(flow.inputs)}" if flow.inputs else f"`{flow.flow}` takes no inputs"
            wrong.append(f"there is no input `{name[:80]}`; {instead(name, flow.inputs, otherwise=known)}")
    values: dict[str, Json] = {}
    for name, schema in flow.inputs.items():
        if name in given:
            values[name] = given[name]
            wrong += [
                f"input `{name}`{_place(each.path)}: {each.message}; {each.fix}"
                for each in mismatches(schema, given[name])
            ]
        elif "default" in schema:
            values[name] = schema["default"]
        else:
            wrong.append(f"input `{name}` is missing")
    if wrong:
        raise InvalidInputError("\n".join(wrong), fix="give each input by its name and type, as `-i name=value`")
    return values


def parse_json(text: str | bytes, *, unique_keys: bool = False) -> Json:
    """The JSON value that a caller wrote: strict JSON that every part of Stepbox keeps as it is.

    Raises:
        ValueError: the text is not JSON.
        InvalidInputError: it holds a number that isn't one or is too large, text that isn't Unicode, nests deeper than
            100 levels, or, with ``unique_keys``, has a key twice in one object.
    """
    try:
        decoded = check_text(text.decode("utf-8-sig") if isinstance(text, bytes) else text)
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"byte {error.start} is not UTF-8", fix="save it as UTF-8") from None
    try:
        value = json.loads(
            decoded,
            parse_constant=_refuse_number,
            parse_int=_integer,
            parse_float=_number,
            object_pairs_hook=_unique if unique_keys else None,
        )
    except RecursionError:
        raise _too_deep() from None
    _check(value)
    return value


def check_text(text: str) -> str:
    """The text itself, where it is Unicode: what a command line holds may be any bytes.

    Raises:
        InvalidInputError: it isn't.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"`{text[:80]}` is not valid Unicode text", fix="write it in UTF-8") from None
    return text


def parse_input(schema: Mapping[str, Json], text: str) -> Json:
    """The value that ``text`` stands for on a command line, by the type that the schema declares.

    Text stays text; numbers, booleans, null, lists and mappings are written as JSON. Without a declared type, JSON is
    tried first.

    Raises:
        InvalidInputError: the text isn't a value of that type, or one that :func:`parse_json` refuses.
    """
    check_text(text)
    declared = schema.get("type")
    kinds = [declared] if isinstance(declared, str) else list(declared or ())
    if kinds == ["string"]:
        return text
    try:
        value = parse_json(text)
    except InvalidInputError:
        if "string" in kinds:
            return text
        raise
    except ValueError:
        if not kinds or "string" in kinds:
            return text
        wanted = " or ".join(kinds)
        example = {"array": '["a", "b"]', "object": '{"a": 1}', "boolean": "true", "null": "null"}.get(kinds[0], "3")
        message = f"`{text[:80]}` is not of type {wanted}"
        raise InvalidInputError(message, fix=f"write it as JSON, such as {example}") from None
    if "string" in kinds and not isinstance(value, str) and not _fits(value, kinds):
        return text
    if isinstance(value, float) and value.is_integer() and "integer" in kinds and "number" not in kinds:
        return _integer(str(int(value)))
    return value


def check_inputs(inputs: Mapping[str, Mapping[str, Json]]) -> Iterator[Finding]:
    """What is wrong with the schemas of a flow's inputs, and with their defaults."""
    for name, schema in inputs.items():
        if (finding := name_finding(name, ("inputs", name), "an input", capitals=True)) is not None:
            yield finding
        wrong = False
        for each in check_schema(schema):
            wrong = True
            at = "key" if each.key else "value"
            path = ("inputs", name, *each.path)
            yield Finding(path=path, code="invalid_schema", message=each.message, fix=each.fix, at=at)  # type: ignore[arg-type]
        if not wrong and "default" in schema:
            for each in mismatches(schema, schema["default"]):
                message = f"the default of `{name}` doesn't match its schema: {each.message}"
                path = ("inputs", name, "default", *each.path)
                yield Finding(path=path, code="invalid_default", message=message, fix=each.fix)


def _fits(value: Json, kinds: list[str]) -> bool:
    return not mismatches({"type": kinds}, value)


def _place(path: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _check(value: Json) -> None:
    """Refuse what nests too deep, and text with half a surrogate pair, which only an escape can say."""
    level = [value]
    for _depth in range(MAX_DEPTH + 1):
        below: list[Json] = []
        for one in level:
            if isinstance(one, str):
                check_text(one)
            elif isinstance(one, list):
                below += one
            elif isinstance(one, dict):
                below += one
                below += one.values()
        if not below:
            return
        level = below
    raise _too_deep()


def _too_deep() -> InvalidInputError:
    return InvalidInputError(f"the value is nested deeper than {MAX_DEPTH} levels", fix="flatten it")


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidInputError(f"the key `{key[:80]}` is there twice", fix="give each key once")
        found[key] = value
    return found


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER or not -_MAX_INTEGER <= (number := int(text)) < _MAX_INTEGER:
        _refuse_number(text)
    return number


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _refuse_number(text)
    return number


def _refuse_number(text: str) -> NoReturn:
    message = f"`{text[:80]}` is not a number that can be kept exactly: it is too large, or not a number at all"
    raise InvalidInputError(message, fix=f'write it in quotes if it is text: "{text[:80]}"')
