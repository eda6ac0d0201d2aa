"""An HTTP request as it came in, and why one is refused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from flows.errors import StepboxError
from flows.values import Json

MAX_HEADERS: Final = 32_000
"""Characters of all headers together."""
MAX_FIELDS: Final = 1_000
"""Fields of a query or a form."""
_PRIVATE: Final = frozenset({"authorization", "proxy-authorization", "cookie"})
"""Headers that hold credentials, and so are never part of an event."""


class RefusedRequestError(StepboxError):
    """A request that isn't taken. ``status`` is the HTTP status of the answer.

    The message is for those who run the installation; of a request that isn't verified, its sender learns only that.
    """

    code = "refused_request"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request. ``headers`` are as they came, in order; ``query`` is what stands behind the question mark."""

    method: str
    headers: Sequence[tuple[str, str]] = ()
    query: str = ""
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The header's value, None where there is none.

        Raises:
            RefusedRequestError: it is there more than once, so that two readers could read two things.
        """
        values = [value for given, value in self.headers if given.lower() == name.lower()]
        if len(values) > 1:
            raise RefusedRequestError(f"the header {name} is there {len(values)} times", status=400)
        return values[0].strip() if values else None


def headers_document(request: Request, *, without: frozenset[str]) -> dict[str, Json]:
    """The headers for an event: by small name, repeated ones joined by commas, without those that hold credentials."""
    document: dict[str, Json] = {}
    for given, value in request.headers:
        name = given.lower()
        if name not in _PRIVATE and name not in without:
            document[name] = f"{document[name]}, {value}" if name in document else value
    return document


def fields_document(text: str) -> dict[str, Json]:
    """The fields of a query or a form: text by name, a list of texts where the name is there more than once.

    Raises:
        RefusedRequestError: it has more than 1,000 fields, or isn't UTF-8.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except UnicodeError:
        raise RefusedRequestError("the fields aren't UTF-8", status=400) from None
    except ValueError:
        raise RefusedRequestError(f"there are more than {MAX_FIELDS:,} fields", status=400) from None
    return gathered(iter(pairs))


def gathered(pairs: Iterator[tuple[str, str]]) -> dict[str, Json]:
    """Names and values as a mapping: a list where a name comes more than once."""
    values: dict[str, list[Json]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: found if len(found) > 1 else found[0] for name, found in values.items()}
