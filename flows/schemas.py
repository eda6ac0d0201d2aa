"""JSON Schemas that are written in flows: whether they are schemas, and what of a value doesn't match one.

The dialect is draft 2020-12 without ``$ref`` and the other keywords that follow references. ``pattern`` is matched by
the expression library's regular expressions, which take linear time whatever the pattern.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from flows.document import Path
from flows.suggestions import closest, instead, listing
from flows.values import Json

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

_REFUSED = frozenset({"$ref", "$dynamicRef", "$schema", "$id", "$vocabulary", "patternProperties"})
_MAX_ERRORS = 20
TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_PLAIN_KEYS = frozenset({"type", "default", "title", "description", "enum"})
_PLAIN: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """What is wrong at a path of a schema or a value; ``key`` says that the last part's key is, not its value."""

    path: Path
    message: str
    fix: str
    key: bool = False


def check_schema(schema: Json) -> Iterator[Mismatch]:
    """What keeps a value from being a JSON Schema that may be used here."""
    if _is_plain(schema):
        return
    if not isinstance(schema, Mapping):
        yield Mismatch(path=(), message="a JSON Schema is a mapping", fix="write `{type: string}`")
        return
    found = list(_refusals(schema, ()))
    yield from found
    if found:
        return
    for error in _errors(_metaschema(), schema):
        yield _schema_mismatch(error)


def mismatches(schema: Mapping[str, Json], value: Json) -> list[Mismatch]:
    """Everything about the value that doesn't match the schema, which ``check_schema`` has found good."""
    if _is_plain(schema) and "enum" not in schema and type(value) in _PLAIN[schema["type"]]:
        return []
    return [_value_mismatch(error) for error in _errors(validator()(schema), value)]


def _is_plain(schema: Json) -> bool:
    """Whether the schema names a type and describes it, no more: most do, and jsonschema takes 0.1 s to import."""
    return (
        isinstance(schema, Mapping)
        and schema.keys() <= _PLAIN_KEYS
        and schema.get("type") in TYPES
        and all(isinstance(schema.get(key, ""), str) for key in ("title", "description"))
        and isinstance(schema.get("enum", [None]), list)
    )


def _errors(validator: "Validator", value: Json) -> "list[ValidationError]":
    from itertools import islice  # noqa: PLC0415 - with what it bounds

    errors = list(islice(validator.iter_errors(value), _MAX_ERRORS))
    return sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])


def _refusals(schema: Json, path: Path) -> Iterator[Mismatch]:
    if isinstance(schema, list):
        for position, item in enumerate(schema):
            yield from _refusals(item, (*path, position))
    elif isinstance(schema, Mapping):
        names = path and path[-1] in {"properties", "$defs"} and (len(path) < 2 or path[-2] != "properties")  # noqa: PLR2004
        for key, item in schema.items():
            if names:
                yield from _refusals(item, (*path, key))
            elif key in _REFUSED:
                yield Mismatch(path=(*path, key), message=f"`{key}` is not allowed here", fix="write it out", key=True)
            elif key == "pattern":
                yield from _pattern_refusal(item, (*path, key))
            elif key not in {"default", "const", "enum", "examples"}:
                yield from _refusals(item, (*path, key))


def _pattern_refusal(pattern: Json, path: Path) -> Iterator[Mismatch]:
    if isinstance(pattern, str) and _matches(pattern, "") is None:
        fix = "correct it; look-around and back-references are not there"
        yield Mismatch(path=path, message="`pattern` is not a regular expression that can be used here", fix=fix)


def _matches(pattern: str, text: str) -> bool | None:
    """Whether the pattern is found in the text; None where it is no pattern."""
    from flows.expressions import ExpressionError, evaluate  # noqa: PLC0415 - few schemas have a pattern

    try:
        return bool(evaluate("pattern_text.matches(pattern)", {"pattern_text": text, "pattern": pattern}))
    except ExpressionError:
        return None


@cache
def validator() -> "type[Validator]":
    """Checks values against JSON Schemas of draft 2020-12; its patterns are RE2's, as everywhere in the language.

    So ``$`` is the end of the text, where Python's takes a newline after it as well. A pattern that RE2 doesn't have,
    as schemas of others may, isn't checked.
    """
    import referencing  # noqa: PLC0415 - half the cost of starting up, and many flows have no inputs
    from jsonschema import Draft202012Validator, ValidationError, validators  # noqa: PLC0415 - the same

    def pattern(_validator: Any, pattern: Json, instance: Json, _schema: Any) -> "Iterator[ValidationError]":
        if not isinstance(instance, str) or not isinstance(pattern, str) or _matches(pattern, instance):
            return
        if _matches(pattern, "") is not None:
            yield ValidationError("does not match the pattern")

    extend: Any = validators.extend
    extended: Any = extend(Draft202012Validator, {"pattern": pattern})
    return lambda schema: extended(schema, registry=referencing.Registry())  # type: ignore[return-value]


@cache
def _metaschema() -> "Validator":
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - as above

    return Draft202012Validator(Draft202012Validator.META_SCHEMA)


def _schema_mismatch(error: "ValidationError") -> Mismatch:
    path = tuple(error.absolute_path)
    if (path and path[-1] == "type") or (len(path) > 1 and path[-2] == "type"):
        fix = instead(str(error.instance), TYPES, otherwise=f"write one of {listing(TYPES)}")
        return Mismatch(path=path, message=f"`{str(error.instance)[:80]}` is not a type of JSON Schema", fix=fix)
    message = f"`{path[-1]}` is not valid in a JSON Schema" if path else "this is not a JSON Schema"
    return Mismatch(path=path, message=message, fix=f"correct it: {_reason(error)}")


def _value_mismatch(error: "ValidationError") -> Mismatch:
    path = tuple(error.absolute_path)
    name = f"`{path[-1]}`" if path else "the value"
    wanted: Any = error.validator_value
    instance: Any = error.instance
    match error.validator:
        case "type":
            kinds = " or ".join([wanted] if isinstance(wanted, str) else [str(each) for each in wanted])
            return Mismatch(path=path, message=f"{name} must be of type {kinds}", fix=f"give a value of type {kinds}")
        case "required":
            missing = next(each for each in wanted if each not in instance)
            return Mismatch(path=path, message=f"`{missing}` is missing", fix=f"give `{missing}`")
        case "additionalProperties":
            known = tuple(error.schema.get("properties", {})) if isinstance(error.schema, Mapping) else ()
            unknown = next((each for each in instance if each not in known), "?")
            otherwise = f"remove it; known here: {listing(known)}" if known else "remove it"
            fix = instead(unknown, known, otherwise=otherwise)
            return Mismatch(path=(*path, unknown), message=f"there is no `{unknown[:80]}`", fix=fix, key=True)
        case "enum":
            options = [str(each) for each in wanted]
            match = closest(str(error.instance), options)
            fix = f"did you mean `{match}`?" if match else f"write {listing(options)}"
            return Mismatch(path=path, message=f"{name} must be one of {listing(options)}", fix=fix)
        case _:
            return Mismatch(path=path, message=f"{name} is not allowed: {_reason(error)}", fix="give another value")


def _reason(error: "ValidationError") -> str:
    """The library's own words, shortened: they may quote the whole value."""
    text = error.message
    return text if len(text) <= 160 else f"{text[:60]} … {text[-90:]}"  # noqa: PLR2004 - one line
