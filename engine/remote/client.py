"""Requests to a service, and its problem documents as errors."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx

from flows.errors import InvalidFlowError, Problem, StepboxError
from flows.values import Json

TIMEOUT: Final = httpx.Timeout(30.0, read=90.0)
"""Seconds; a stream says every 15 that it is alive."""
PATIENT: Final = httpx.Timeout(30.0, read=None)
"""For what takes as long as it takes, such as code."""


class ServiceUnreachableError(StepboxError):
    """The service that ``STEPBOX_URL`` names doesn't answer, or not as Stepbox does."""

    code = "service_unreachable"


class Client:
    """Speaks to one service with one token."""

    def __init__(self, url: str, token: str | None, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._client = httpx.AsyncClient(
            base_url=f"{self._url}/api/v1", headers=headers, timeout=TIMEOUT, transport=transport
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Json = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        patience: httpx.Timeout = TIMEOUT,
    ) -> Json:
        """The JSON of an answer, None where it has none.

        Raises:
            StepboxError: the service refused, with its code and fix.
            ServiceUnreachableError: it doesn't answer, or not as Stepbox does.
        """
        answer = await self.send(method, path, body=body, query=query, headers=headers, patience=patience)
        try:
            return answer.json() if answer.content else None
        except ValueError as problem:
            raise self._unreachable(problem) from problem

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: Json = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        patience: httpx.Timeout = TIMEOUT,
    ) -> httpx.Response:
        """A whole answer; raises as :meth:`call`."""
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            answer = await self._client.request(
                method, path, params=params, json=body, headers=dict(headers or {}), timeout=patience
            )
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            raise self._unreachable(problem) from problem
        if not answer.is_success:
            self._refuse(answer)
        return answer

    async def pages(self, path: str, *, query: Mapping[str, Any] | None = None) -> list[dict[str, Json]]:
        """All items of a listing."""
        items: list[dict[str, Json]] = []
        cursor: str | None = None
        while True:
            page = await self.call("GET", path, query={**(query or {}), "limit": 1000, "cursor": cursor})
            items += page["items"]
            cursor = page["next"]
            if cursor is None:
                return items

    @asynccontextmanager
    async def stream(self, path: str, *, after: str | None) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of an answer that comes over time.

        Raises:
            httpx.HTTPError: the connection is gone.
            StepboxError: the service refused.
        """
        headers = {} if after is None else {"Last-Event-ID": after}
        async with self._client.stream("GET", path, headers=headers) as answer:
            if not answer.is_success:
                await answer.aread()
                self._refuse(answer)
            yield answer.aiter_lines()

    async def save(self, path: str, file: Path, *, sha256: str) -> None:
        """Write the content of an answer to a file; raises as :meth:`call`, also where it isn't what it should be."""
        digest = hashlib.sha256()
        try:
            async with self._client.stream("GET", path) as answer:
                if not answer.is_success:
                    await answer.aread()
                    self._refuse(answer)
                with file.open("wb") as opened:
                    async for piece in answer.aiter_bytes():
                        digest.update(piece)
                        opened.write(piece)
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            raise self._unreachable(problem) from problem
        if digest.hexdigest() != sha256:
            raise self._unreachable(ValueError("the content isn't what was kept"))

    def _unreachable(self, problem: Exception) -> ServiceUnreachableError:
        return ServiceUnreachableError(
            f"the service {self._url} doesn't answer as it should: {str(problem) or type(problem).__name__}",
            fix="check STEPBOX_URL and that `stepbox serve` runs there, or unset it to work on this machine's home",
        )

    def _refuse(self, answer: httpx.Response) -> NoReturn:
        try:
            document = answer.json()
            code, message = str(document["code"]), str(document["detail"])
        except (ValueError, KeyError, TypeError):
            raise self._unreachable(ValueError(f"status {answer.status_code}")) from None
        if code == "invalid_flow":
            raise InvalidFlowError(_problem(one) for one in document.get("problems") or ())
        fix = document.get("fix")
        if code == "unauthenticated":
            fix = "set STEPBOX_TOKEN to a token of the service: stepbox tokens create NAME makes one there"
        if answer.is_server_error and document.get("request_id"):
            message += f" (request {document['request_id']} in the service's log)"
        for one in document.get("problems") or ():
            message += f"\n{one.get('at', '')}: {one.get('message', '')}"
        raise _error(code, int(document.get("exit_status") or (2 if answer.is_client_error else 1)))(message, fix=fix)


def _error(code: str, exit_status: int) -> type[StepboxError]:
    """The error that the service raised, as far as doors can tell."""
    return type("ServiceError", (StepboxError,), {"code": code, "exit_status": exit_status})


def _problem(one: Mapping[str, Json]) -> Problem:
    return Problem(
        path=one["file"],
        line=one["line"],
        column=one["column"],
        code=one["code"],
        message=one["message"],
        fix=one["fix"],
    )
