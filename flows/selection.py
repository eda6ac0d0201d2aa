"""What an expression reads of the names, picked out before anything is converted for the CEL library."""

from collections.abc import Mapping
from typing import cast

from flows.document import value_at
from flows.references import Analysis, Lookup, Part
from flows.values import Json


def known_path(path: tuple[Part, ...], names: Mapping[str, Json]) -> tuple[str | int, ...] | None:
    """A path with every index looked up, None where one can't be or is of a type that indexes nothing."""
    known: list[str | int] = []
    for part in path:
        if isinstance(part, Lookup):
            try:
                key = value_at(names, part.path)
            except KeyError:
                return None
            if not isinstance(key, str | int) or isinstance(key, bool):
                return None
            known.append(key)
        else:
            known.append(part)
    return tuple(known)


def used_names(analysis: Analysis, names: Mapping[str, Json]) -> dict[str, Json]:
    """Only those parts of the names that the expression refers to: what isn't converted costs nothing."""
    paths = []
    for reference in analysis.references:
        known = known_path(reference.path, names)
        unknown = next((place for place, part in enumerate(reference.path) if isinstance(part, Lookup)), None)
        paths.append(known or cast("tuple[str | int, ...]", reference.path[:unknown]))
    used: dict[str, Json] = _pruned(names, [path for path in paths if path[0] in names])
    return used


def _pruned(value: Json, paths: list[tuple[str | int, ...]]) -> Json:
    """A value of which only what these paths lead to is there; of a list, null stands for the items before."""
    if not all(paths) or not isinstance(value, Mapping | list):
        return value
    kind = str if isinstance(value, Mapping) else int
    if not all(isinstance(path[0], kind) for path in paths):
        return value
    wanted: dict[str | int, list[tuple[str | int, ...]]] = {}
    for path in paths:
        wanted.setdefault(path[0], []).append(path[1:])
    if isinstance(value, Mapping):
        return {key: _pruned(value[key], below) for key, below in wanted.items() if key in value}
    there = {key: below for key, below in wanted.items() if isinstance(key, int) and 0 <= key < len(value)}
    items: list[Json] = [None] * (max(there, default=-1) + 1)
    for key, below in there.items():
        items[key] = _pruned(value[key], below)
    return items


def selected(names: Mapping[str, Json], path: tuple[Part, ...]) -> Json:
    """The part that a reference reads, as far as it is there."""
    known = known_path(path, names)
    try:
        return None if known is None else value_at(names, known)
    except KeyError:
        return None
