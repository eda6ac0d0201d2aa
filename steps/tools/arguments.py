"""Checking arguments against a tool's JSON Schema: all that is wrong at once, in words that say what to change."""

import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from flows.contracts import ToolSpec
from flows.schemas import validator
from flows.values import Json

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_SHOWN = 60
"""Characters of a wrong value that a message repeats."""


def problems(spec: ToolSpec, arguments: Json) -> list[str]:
    """What is wrong with ``arguments``; empty where nothing is."""
    if not isinstance(arguments, Mapping):
        return [f"{spec.name} takes an object of arguments by name, not {_shown(arguments)}"]
    errors = sorted(validator()(spec.arguments).iter_errors(arguments), key=lambda error: list(map(str, error.path)))
    return list(dict.fromkeys(message for error in errors for message in _explain(error)))


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` is closest to, if any is close."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return matches[0] if matches else None


def _explain(error: "ValidationError") -> Iterator[str]:
    where = ".".join(map(str, error.path))
    explain = _EXPLANATIONS.get(str(error.validator))
    if explain is not None:
        yield from explain(error, where)
    else:
        yield f"{where} can't be {_shown(error.instance)}: it breaks {error.validator}: {error.validator_value}"


def _unknown(error: Any, where: str) -> Iterator[str]:
    known = error.schema["properties"]
    for name in error.instance:
        if name not in known:
            meant = did_you_mean(name, known)
            hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(known)}"
            yield f"{_at(where)}unknown argument {name!r}: {hint}"


def _missing(error: Any, where: str) -> Iterator[str]:
    for name in error.validator_value:
        if name not in error.instance:
            yield f"{_at(where)}argument {name!r} is missing"


def _wrong_type(error: Any, where: str) -> Iterator[str]:
    wanted = error.validator_value
    types = " or ".join(wanted if isinstance(wanted, list) else [wanted])
    yield f"{where or 'it'} must be of type {types}, not {_shown(error.instance)}"


def _not_listed(error: Any, where: str) -> Iterator[str]:
    wanted = [str(value) for value in error.validator_value]
    meant = did_you_mean(str(error.instance), wanted)
    hint = f": did you mean {meant!r}?" if meant else ""
    yield f"{where} must be one of {', '.join(wanted)}, not {_shown(error.instance)}{hint}"


def _no_id(error: Any, where: str) -> Iterator[str]:
    yield (
        f"{where} must be letters, digits, '.', '-' and '_', at most 128, beginning with a letter or digit, "
        f"not {_shown(error.instance)}"
    )


def _too_few(error: Any, where: str) -> Iterator[str]:
    other = [name for name in error.schema["properties"] if name not in error.schema["required"]]
    yield f"{_at(where)}nothing to change: give one of {', '.join(other)}"


def _alternatives(error: Any, where: str) -> Iterator[str]:
    wanted = error.validator_value
    choices = wanted if isinstance(wanted, list) else [wanted]
    if all(set(one) == {"required"} for one in choices):
        count = {"oneOf": "exactly one", "anyOf": "at least one", "not": "only one"}[error.validator]
        yield f"{_at(where)}give {count} of {' and '.join(name for one in choices for name in one['required'])}"
    else:
        inner = dict.fromkeys(message for part in error.context for message in _explain(part))
        yield f"{where} can't be {_shown(error.instance)}: {', or '.join(inner)}"


_EXPLANATIONS: Final[Mapping[str, Callable[[Any, str], Iterator[str]]]] = {
    "additionalProperties": _unknown,
    "required": _missing,
    "type": _wrong_type,
    "enum": _not_listed,
    "pattern": _no_id,
    "minProperties": _too_few,
    "oneOf": _alternatives,
    "anyOf": _alternatives,
    "not": _alternatives,
}
"""By the keyword that is broken."""


def _at(where: str) -> str:
    return f"{where}: " if where else ""


def _shown(value: Json) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
