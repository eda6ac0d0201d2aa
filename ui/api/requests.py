"""What handlers take from a request."""

from collections.abc import Callable, Sequence
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from engine.service import InvalidPositionError, Service, Serving
from flows.names import MAX_NAME, NAME
from flows.values import RunStatus
from ui.api.models import RUN_ID, FlowName

Item = TypeVar("Item")


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


def _service(request: Request) -> Service:
    return _serving(request).service(request.state.principal)


TheServing = Annotated[Serving, Depends(_serving)]
TheService = Annotated[Service, Depends(_service)]
"""The service, acting for whose token it is."""

FlowPath = Annotated[str, Path(alias="flow", pattern=f"^{NAME.pattern}$", max_length=MAX_NAME, examples=["greet"])]
RunPath = Annotated[
    str,
    Path(
        alias="run",
        pattern="^[0-9A-Za-z]{1,26}$",
        description="The run's id, or enough of its beginning.",
        examples=[RUN_ID],
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,200}$",
        description="Any text of yours: the same request with the same key starts one run, however often it is made.",
    ),
]
Wait = Annotated[
    float,
    Query(
        ge=0, le=60, description="Seconds to wait for the run to end: then the answer is 200, else 202.", examples=[0]
    ),
]


class QueryModel(BaseModel):
    """Base of what queries hold: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Paging(QueryModel):
    """Which part of a listing."""

    limit: int = Field(default=50, ge=1, le=1000)
    cursor: str | None = Field(default=None, pattern="^[A-Za-z0-9_]{1,100}$", description="`next` of the page before.")


class RunsQuery(Paging):
    """Which runs."""

    flow: FlowName | None = Field(default=None, description="Only runs of this flow.")
    status: RunStatus | None = Field(default=None, description="Only runs with this status.", examples=["failed"])


class LogsQuery(Paging):
    """Which lines."""

    limit: int = Field(default=1000, ge=1, le=10_000)
    step: str | None = Field(default=None, pattern="^[a-z][a-z0-9_]*$", max_length=MAX_NAME)


class NextQuery(QueryModel):
    """How many times of schedules."""

    count: int = Field(default=5, ge=1, le=1000)


def page_after(items: Sequence[Item], key: Callable[[Item], str], query: Paging) -> tuple[Sequence[Item], str | None]:
    """The part of a whole listing that comes after the cursor, which is the key of an item, and the next cursor.

    Raises:
        InvalidPositionError: the cursor is the key of none, or of one that is gone meanwhile.
    """
    keys = [key(item) for item in items]
    if query.cursor is not None and query.cursor not in keys:
        raise InvalidPositionError(f"{query.cursor!r} is no cursor here", fix="give the `next` of the page before")
    first = 0 if query.cursor is None else keys.index(query.cursor) + 1
    last = first + query.limit
    return items[first:last], keys[last - 1] if last < len(keys) else None
