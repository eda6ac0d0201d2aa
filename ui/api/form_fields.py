"""A JSON Schema of an approval's form as the fields of an HTML form, and what was filled in as values."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from flows.values import Json

PREFIX: Final = "value."
"""What the names of fields begin with, so that none is taken for the decision or the comment."""
WHOLE: Final = "values"
"""The field of a form whose properties aren't listed: the JSON of all values."""
_LONG: Final = 200
"""Characters that a text may have at most, for a field of one line."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One choice; ``value`` is its place, from 0."""

    value: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field. ``value`` is what stands in it; ``property`` is None for the JSON of all values."""

    property: str | None
    name: str
    label: str
    kind: Literal["line", "text", "integer", "number", "choice", "json"]
    required: bool = False
    help: str = ""
    value: str = ""
    options: Sequence[Option] = ()
    choices: Sequence[Json] = ()
    error: str = ""


def fields_of(form: Mapping[str, Json] | None) -> Sequence[Field]:
    """The fields of a form, with their defaults filled in; none where nothing is asked for."""
    if form is None:
        return ()
    properties = form.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return (Field(property=None, name=WHOLE, label="Values", kind="json", help="As a JSON object."),)
    required = form.get("required", ())
    return tuple(
        _field(name, schema if isinstance(schema, Mapping) else {}, required=name in required)
        for name, schema in properties.items()
    )


def filled_in(fields: Sequence[Field], given: Mapping[str, str]) -> tuple[dict[str, Json], Sequence[Field]]:
    """The values that were filled in, and the fields with them, each with what is wrong with its text."""
    values: dict[str, Json] = {}
    shown: list[Field] = []
    for field in fields:
        text = given.get(field.name, "").replace("\r\n", "\n")
        now = replace(field, value=text)
        if text:
            try:
                value = _value(field, text)
            except (ValueError, IndexError, RecursionError):
                now = replace(now, error="This is not JSON." if field.kind == "json" else "This can't be read.")
            else:
                if field.property is not None:
                    values[field.property] = value
                elif isinstance(value, dict):
                    values = value
                else:
                    now = replace(now, error="Write a JSON object: {…}.")
        shown.append(now)
    return values, shown


def _field(name: str, schema: Mapping[str, Json], *, required: bool) -> Field:
    help_ = " ".join(_words(schema))
    field = Field(property=name, name=PREFIX + name, label=str(schema.get("title", name)), kind="json", help=help_)
    field = replace(field, required=required and "default" not in schema)
    default = schema.get("default")
    choices = schema.get("enum")
    if schema.get("type") == "boolean":
        choices = [True, False]
    if isinstance(choices, list) and choices:
        options = [Option(value=str(place), label=_label(one)) for place, one in enumerate(choices)]
        chosen = next((str(place) for place, one in enumerate(choices) if "default" in schema and one == default), "")
        return replace(field, kind="choice", options=options, choices=choices, value=chosen)
    match schema.get("type"):
        case "string":
            longest = schema.get("maxLength")
            text = isinstance(longest, int) and longest > _LONG
            return replace(field, kind="text" if text else "line", value=str(default or ""))
        case "integer" | "number" as kind:
            return replace(field, kind=kind, value="" if default is None else json.dumps(default))
        case _:
            return replace(field, value="" if default is None else json.dumps(default, ensure_ascii=False))


def _value(field: Field, text: str) -> Json:
    match field.kind:
        case "choice":
            if not text.isdecimal():
                raise ValueError(text)
            return field.choices[int(text)]
        case "line" | "text":
            return text
        case _:
            return json.loads(text, parse_constant=_no_constant)


def _no_constant(name: str) -> Json:
    raise ValueError(name)


def _words(schema: Mapping[str, Json]) -> Iterator[str]:
    if "description" in schema:
        yield str(schema["description"])
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"From {low} to {high}."
    elif low is not None:
        yield f"At least {low}."
    elif high is not None:
        yield f"At most {high}."


def _label(value: Json) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
