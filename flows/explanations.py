"""What pydantic finds wrong, in plain words and at its place in the YAML."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from flows.contracts import Finding
from flows.document import Path, member, value_at
from flows.suggestions import instead, listing
from flows.values import Json

_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_TYPE_FIXES = {
    "text": "write text; put it in quotes if it looks like a number",
    "a whole number": "write a whole number, without quotes",
    "a number": "write a number, without quotes",
    "`true` or `false`": "write true or false, without quotes",
    "a list": "write a list: `[a, b]`, or one item a line after `- `",
    "a mapping": "write `key: value` lines below it",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def type_name(value: Json) -> str:
    """What a value is, for a sentence."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "a mapping"


def known_keys(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys that a mapping of that model may have, as written in YAML."""
    return tuple(info.alias or name for name, info in model.model_fields.items())


def explain(error: ValidationError, model: type[BaseModel], data: Json) -> Iterator[Finding]:
    """The findings of one failed validation, with paths from the mapping that was validated."""
    branches: dict[Path, list[tuple[Path, ErrorDetails]]] = {}
    for detail in error.errors(include_url=False):
        path, union = _located(detail, data)
        if union is None:
            yield _finding(path, detail, model, data)
        else:
            branches.setdefault(union, []).append((path, detail))
    for union, details in branches.items():
        yield from _choice(union, details, model, data)


def _located(detail: ErrorDetails, data: Json) -> tuple[Path, Path | None]:
    """The error's path in the data, and that of the value with several possible types, if one was passed."""
    path: list[str | int] = []
    union: Path | None = None
    value = data
    for position, part in enumerate(detail["loc"]):
        last = position + 1 == len(detail["loc"])
        try:
            value = member(value, part)
        except KeyError:
            if not (last and detail["type"] == "missing"):
                union = tuple(path) if union is None else union
                continue
        path.append(part)
    return tuple(path), union


def _choice(
    union: Path, details: list[tuple[Path, ErrorDetails]], model: type[BaseModel], data: Json
) -> Iterator[Finding]:
    """One finding where no type fits; the inner findings where one does but isn't right."""
    outer = [detail for path, detail in details if path == union]
    inner = [(path, detail) for path, detail in details if path != union]
    value = value_at(data, union)
    fitting = [detail for detail in outer if detail["type"] == "value_error" and isinstance(value, str | int | float)]
    if inner and not isinstance(value, bool | int | float | str):
        for path, detail in inner:
            yield _finding(path, detail, model, data)
    elif fitting:
        yield _finding(union, fitting[0], model, data)
    else:
        literal = next((detail for detail in outer if detail["type"] == "literal_error"), None)
        if literal is not None and isinstance(value, str):
            yield _finding(union, literal, model, data)
            return
        wanted = list(dict.fromkeys(_wanted(detail) for detail in outer))
        message = f"{_name(union)} must be {' or '.join(wanted)}, but is {type_name(value)}"
        fix = _TYPE_FIXES.get(wanted[0], f"write {wanted[0]}") if wanted else "correct it"
        yield Finding(path=union, code="wrong_type", message=message, fix=fix)


def _wanted(detail: ErrorDetails) -> str:
    if detail["type"] == "literal_error":
        return str(detail.get("ctx", {}).get("expected", "")).replace("'", "`")
    if detail["type"] == "value_error":
        return _reason(detail).removeprefix("must be ")
    return _TYPES.get(detail["type"], "something else")


def _reason(detail: ErrorDetails) -> str:
    return str(detail.get("ctx", {}).get("error") or detail["msg"])


def _name(path: Path) -> str:
    keys = [part for part in path if isinstance(part, str)]
    if path and isinstance(path[-1], int):
        return f"each item of `{keys[-1]}`" if keys else "each item"
    return f"`{keys[-1]}`" if keys else "this"


def _finding(path: Path, detail: ErrorDetails, model: type[BaseModel], data: Json) -> Finding:
    if detail["type"] == "extra_forbidden":
        return unknown_key(path, model_at(model, path[:-1]))
    if detail["type"] == "missing":
        message = f"the key `{path[-1]}` is missing"
        return Finding(path=path[:-1], code="missing_key", message=message, fix=f"add `{path[-1]}: …`", at="key")
    code, message, fix = _value_problem(_name(path), detail, value_at(data, path))
    return Finding(path=path, code=code, message=message, fix=fix)


def _value_problem(name: str, detail: ErrorDetails, value: Json) -> tuple[str, str, str]:
    """Code, message and fix for a value of the wrong type or beyond what is allowed."""
    kind = detail["type"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind in _TYPES:
        wanted = _TYPES[kind]
        fix = "give it a value, or remove the key" if value is None else _TYPE_FIXES[wanted]
        return "wrong_type", f"{name} must be {wanted}, but is {type_name(value)}", fix
    message, fix = f"{name} is not valid: {detail['msg'].lower()}", "correct it; see the reference of the language"
    if kind == "literal_error":
        options = str(context.get("expected", "")).replace(" or ", ", ").replace("'", "").split(", ")
        message = f"{name} must be one of {listing(options)}"
        fix = instead(str(value), options, otherwise=f"write one of {listing(options)}")
    elif kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        message = f"{name} must be {words} {context[key]}"
        fix = f"write a number of {words} {context[key]}"
    elif kind == "value_error":
        reason = _reason(detail)
        message, fix = f"{name} {reason}", reason.replace("must be", "write", 1)
    elif kind == "too_short":
        message, fix = f"{name} is empty", "give at least one"
    return "invalid_value", message, fix


def unknown_key(path: Path, model: type[BaseModel] | None, *, known: tuple[str, ...] = ()) -> Finding:
    """The finding for a key that isn't there, with what it was probably meant to be."""
    options = known or (known_keys(model) if model is not None else ())
    name = str(path[-1])
    otherwise = f"remove it; known here: {listing(options)}" if options else "remove it"
    fix = instead(name, options, otherwise=otherwise)
    return Finding(path=path, code="unknown_key", message=f"there is no key `{name[:80]}` here", fix=fix, at="key")


def model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model of the mapping at that path, or None where it has none."""
    current: list[Any] = [model]
    for part in path:
        following: list[Any] = []
        for annotation in current:
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                fields = annotation.model_fields.items()
                following += [info.annotation for name, info in fields if part in {info.alias, name}]
            elif get_origin(annotation) in {list, dict}:
                following.append(get_args(annotation)[-1])
        current = [member for annotation in following for member in _members(annotation)]
    models = (member for member in current if isinstance(member, type) and issubclass(member, BaseModel))
    return next(models, None)


def _members(annotation: Any) -> list[Any]:
    """The types that an annotation allows, without ``Annotated`` and ``None``."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return [member for part in get_args(annotation) for member in _members(part)]
    return [annotation]
