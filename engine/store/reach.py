"""Conditions of queries by which only what somebody may reach is found."""

from sqlalchemy import ColumnElement, or_

from engine.reach import EVERYTHING, Reach

_ESCAPE = "\\"


def within(reach: Reach, name: ColumnElement[str]) -> list[ColumnElement[bool]]:
    """The conditions by which a column's name is one that may be reached; none where all may be."""
    return [or_(*(name.like(_like(each), escape=_ESCAPE) for each in group)) for group in reach.groups]


def _like(pattern: str) -> str:
    for special in (_ESCAPE, "%", "_"):
        pattern = pattern.replace(special, _ESCAPE + special)
    return pattern.replace(EVERYTHING, "%")
