"""Requests made from the OpenAPI document: none breaks the service, none gets an answer that the document doesn't have."""

import asyncio
import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from engine.bootstrap import open_serving
from engine.service import Serving
from tests.unit.ui.api.conftest import QUICK
from ui.api.app import create_app

MAX_BODY = 1_000_000_000
EXAMPLES = int(os.environ.get("STEPBOX_TEST_EXAMPLES", "5"))
"""Requests for each operation."""

DOCUMENT = schemathesis.openapi.from_dict(create_app(cast("Serving", None), max_body=MAX_BODY).openapi())
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


class Service:
    """A service that listens, in a thread with a loop of its own."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._begun: Future[tuple[uvicorn.Server, str]] = Future()
        self._thread = Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._server, token = self._begun.result(timeout=120)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.headers = {"Authorization": f"Bearer {token}"}

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=60)
        self._listening.close()
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        async with open_serving() as serving:
            app = create_app(serving, max_body=MAX_BODY)
            server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
            self._begun.set_result((server, await serving.first_token() or ""))
            await server.serve(sockets=[self._listening])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home: Path = tmp_path_factory.mktemp("documented") / "home"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("STEPBOX_HOME", str(home))
        environment.setenv("STEPBOX_RUNNER", "nsjail")
        service = Service()
        try:
            applied = requests.put(
                f"{service.url}/api/v1/flows/greet",
                json={"text": QUICK.replace("quick", "greet")},
                headers=service.headers,
                timeout=60,
            )
            assert applied.status_code == 201
            yield service
        finally:
            service.close()


@DOCUMENT.parametrize()
@settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_answer_is_documented(service: Service, case: "schemathesis.Case[Any]") -> None:
    # Minutes of waiting prove nothing more.
    if case.query and "wait" in case.query and str(case.query["wait"]) not in {"0", "0.0"}:
        case.query["wait"] = "0.1"
    case.call_and_validate(base_url=service.url, headers=service.headers, checks=CHECKS, timeout=60)
