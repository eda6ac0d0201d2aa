"""The whole service in this process, with its real store, runner and Prefect engine; requests come over ASGI."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from engine.bootstrap import open_serving
from engine.local_serving import LocalServing
from flows.values import Json
from ui.api.app import create_app

MAX_BODY = 200_000

QUICK = """\
flow: quick
inputs: {n: {type: integer, default: 1}}
steps:
  - id: one
    shell: echo "n is $INPUT_N"
    with: {n: "${{ inputs.n }}"}
output: ${{ steps.one.result }}
"""
SLOW = """\
flow: slow
steps:
  - id: nap
    shell: |
      echo begun
      sleep 60
  - id: after
    shell: echo after
finally:
  - id: last
    shell: echo cleaned up
"""


@dataclass(frozen=True, kw_only=True)
class Api:
    """A client of the service, with its admin token."""

    app: FastAPI
    serving: LocalServing
    client: httpx.AsyncClient
    home: Path

    async def call(self, method: str, path: str, expected: int = 200, **given: Json) -> Json:
        """The JSON of an answer with the status that is expected."""
        answer = await self.client.request(method, f"/api/v1{path}", **given)
        assert answer.status_code == expected, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    async def until(self, path: str, holds: Callable[[Json], bool]) -> Json:
        """What is there once it is as it should be."""
        async with asyncio.timeout(60):
            while not holds(found := await self.call("GET", path)):  # noqa: ASYNC110 - another process's doing, perhaps
                await asyncio.sleep(0.1)
        return found

    async def put(self, text: str) -> Json:
        """Apply a flow under its own name."""
        name = text.split("flow: ", 1)[1].split("\n", 1)[0]
        answer = await self.client.put(f"/api/v1/flows/{name}", json={"text": text})
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    async with open_api(tmp_path, monkeypatch) as api:
        yield api


@asynccontextmanager
async def open_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """A service on a home of its own; opened once more, it is one that was started again."""
    monkeypatch.setenv("STEPBOX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("STEPBOX_RUNNER", "nsjail")
    async with open_serving() as serving:
        token = await serving.first_token() or (await serving.service().create_token("admin")).text
        app = create_app(serving, max_body=MAX_BODY)
        headers = {"Authorization": f"Bearer {token}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stepbox", headers=headers) as client:
            yield Api(app=app, serving=serving, client=client, home=tmp_path / "home")
        app.state.closing.set()
