"""Queries of requests: a parameter that an operation doesn't have, or that comes twice, is refused and not passed over.

So nobody takes a misspelt filter for one that found everything, and no proxy reads another value than Stepbox does.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from fastapi import Request

from flows.errors import InvalidCallError
from flows.suggestions import instead


class InvalidQueryError(InvalidCallError):
    """A parameter that the operation doesn't have, or that comes more than once."""

    code = "invalid_request"


async def check_query(request: Request) -> None:
    """Let a request through whose query parameters its operation has, each once."""
    if not request.scope["query_string"]:
        return
    given = Counter(name for name, _value in request.query_params.multi_items())
    known = _known(request)
    for name, count in given.items():
        if name not in known:
            fix = instead(name, known, otherwise="leave it out")
            raise InvalidQueryError(f"there is no query parameter {name[:100]!r} here", fix=fix)
        if count > 1:
            raise InvalidQueryError(f"the query parameter {name!r} comes {count} times", fix="give it once")


def _known(request: Request) -> list[str]:
    state = request.app.state
    if not hasattr(state, "queries"):
        state.queries = dict(_queries(request.app.openapi()))
    queries: dict[str, list[str]] = state.queries
    return queries[request.scope["route"].operation_id]


def _queries(document: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The names of the query parameters of each operation, by its id."""
    for operations in document["paths"].values():
        for one in operations.values():
            yield one["operationId"], [each["name"] for each in one.get("parameters", ()) if each["in"] == "query"]
