"""The inputs of a flow: JSON Schemas by name, of which a ``default`` makes one optional."""

import json
from collections.abc import Iterator, Mapping

from flows.contracts import Finding
from flows.errors import InvalidCallError
from flows.model import Flow
from flows.names import name_finding
from flows.schemas import check_schema, mismatches
from flows.suggestions import instead, listing
from flows.values import Json


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


def parse_input(schema: Mapping[str, Json], text: str) -> Json:
    """The value that ``text`` stands for on a command line, by the type that the schema declares.

    Text stays text; numbers, booleans, null, lists and mappings are written as JSON. Without a declared type, JSON is
    tried first.

    Raises:
        InvalidInputError: the text isn't a value of that type.
    """
    declared = schema.get("type")
    kinds = [declared] if isinstance(declared, str) else list(declared or ())
    if kinds == ["string"]:
        return text
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        if not kinds or "string" in kinds:
            return text
        wanted = " or ".join(kinds)
        example = {"array": '["a", "b"]', "object": '{"a": 1}', "boolean": "true", "null": "null"}.get(kinds[0], "3")
        message = f"`{text[:80]}` is not of type {wanted}"
        raise InvalidInputError(message, fix=f"write it as JSON, such as {example}") from None
    if "string" in kinds and not isinstance(value, str) and not _fits(value, kinds):
        return text
    if isinstance(value, float) and value.is_integer() and "integer" in kinds and "number" not in kinds:
        return int(value)
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


def _refuse_constant(text: str) -> Json:
    raise ValueError(f"{text} is not JSON")
