"""What every route has: a token is needed, answers carry headers, bodies have limits, the document describes it all."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from engine.store.errors import StoreUnavailableError
from tests.unit.ui.api.conftest import MAX_BODY, Api
from ui.api import health, hooks
from ui.api.app import ROUTERS
from ui.api.guard import OPEN, SELF_VERIFYING

RUN = "01K6ZQ4T5N8W0Q2M4R6X8Y0A1B"


def requests_of(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Each method of each path, those that no document describes too."""
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), _path(path)
    for route in all_routes():
        for method in route.methods or ():
            path = _path(route.path)
            yield method, path
            yield method, f"/api/v1{path}"


def _path(template: str) -> str:
    hook = template.replace("{hook:path}", "orders").replace("{hook}", "orders")
    names = {"flow": "quick", "version": "1", "token_id": "abc", "secret": "hook_key", "principal": "ann"}
    ids = {"run": RUN, "approval": RUN, "artifact": RUN, "event": RUN}
    return hook.format(**names, **ids, workspace="ops")


def all_routes() -> list[APIRoute]:
    routers = (*ROUTERS, hooks.router, health.metrics, health.health)
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


async def test_no_route_but_health_is_open(api: Api) -> None:
    asked = {
        *requests_of(api.app),
        ("GET", "/nothing"),
        ("POST", "/"),
        ("GET", "/docs"),
        ("GET", "/api/v1/openapi.json"),
    }
    assert len(asked) > 25
    headers: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer stp_abcdefghijkl_" + "x" * 43},
        {"Authorization": "Basic YTpi"},
    ]
    transport = httpx.ASGITransport(api.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stepbox") as stranger:
        for method, path in asked:
            for given in headers:
                answer = await stranger.request(method, path, headers=given)
                if path in OPEN:
                    assert answer.status_code in {200, 405}, (method, path)
                    continue
                if path.startswith(SELF_VERIFYING):
                    assert answer.json()["code"] == "unknown_webhook", (method, path)
                    continue
                assert answer.status_code == 401, (method, path, answer.status_code)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert answer.headers["content-type"] == "application/problem+json"
                if method != "HEAD":
                    assert answer.json()["code"] == "unauthenticated"


async def test_every_operation_is_described(api: Api) -> None:
    document = await api.call("GET", "/openapi.json")
    names = []
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names.append(operation["operationId"])
            assert operation["description"], path
            assert operation["tags"], path
            if path in OPEN or path.startswith(SELF_VERIFYING):
                assert "security" not in operation
                continue
            assert operation["security"] == [{"token": []}]
            for status, response in operation["responses"].items():
                if status in {"401", "403", "413", "422", "503"}:
                    assert set(response["content"]) == {"application/problem+json"}, path
            assert {"401", "403", "413", "422", "503"} <= set(operation["responses"])
    assert len(names) == len(set(names))
    described = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert len(all_routes()) == len(described)
    for route in all_routes():
        for method in route.methods or ():
            described_as = route.path.replace(":path", "")
            assert {(method, described_as), (method, f"/api/v1{described_as}")} & described, route.path
    for model in ("StartIn", "FlowIn", "ApplyIn", "ExecuteIn", "TokenIn", "TrialIn"):
        assert document["components"]["schemas"][model]["additionalProperties"] is False


async def test_answers_carry_security_headers(api: Api) -> None:
    for path in ("/healthz", "/api/v1/flows", "/api/v1/nothing"):
        answer = await api.client.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_unknown_paths_and_methods_are_problems(api: Api) -> None:
    answer = await api.client.get("/api/v1/nothing")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_path")
    answer = await api.client.patch("/api/v1/flows")
    assert (answer.status_code, answer.json()["code"]) == (405, "wrong_method")
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_over_the_limit_is_refused(api: Api, *, declared: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_BODY // 50_000 + 1):
            yield b" " * 50_000

    content = b" " * (MAX_BODY + 1) if declared else pieces()
    answer = await api.client.post("/api/v1/execute", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "unreadable_request"),
        (b"\xff\xfe", 422, "invalid_input"),
        (b"[" * 50_000, 422, "invalid_input"),
        (b"", 422, "invalid_request"),
        (b"[]", 422, "invalid_request"),
        (b'{"language": "python", "code": "return 1", "mode": "fast"}', 422, "invalid_request"),
        (b'{"language": "cobol", "code": ""}', 422, "invalid_request"),
        (b'{"language": "python", "code": "\\ud800"}', 422, "invalid_input"),
        (b'{"language": "python", "code": "return 1", "inputs": {"n": NaN}}', 422, "invalid_input"),
        (b'{"language": "python", "code": "return 1", "inputs": {"n": "\\udc00"}}', 422, "invalid_input"),
        (b'{"language": "python", "code": "return 1", "tools": ["no.such"]}', 422, "invalid_snippet"),
    ],
)
async def test_what_is_wrong_with_a_body_is_said(api: Api, content: bytes, status: int, code: str) -> None:
    answer = await api.client.post("/api/v1/execute", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["status"] == status


async def test_code_is_executed_and_its_failure_is_an_answer(api: Api) -> None:
    body = {"language": "shell", "code": 'echo "hello $INPUT_WHO"; echo oops >&2', "inputs": {"who": "you"}}
    outcome = await api.call("POST", "/execute", json=body)
    assert (outcome["status"], outcome["result"], outcome["stderr"]) == ("succeeded", "hello you", "oops\n")
    outcome = await api.call("POST", "/execute", json={"language": "shell", "code": "exit 3"})
    assert (outcome["status"], outcome["isolation"]) == ("failed", "jail")


async def test_a_service_that_has_lost_its_database_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = await api.client.get("/readyz")
    assert ready.json() == {"status": "ok", "checks": {"database": None, "dispatcher": None, "intake": None}}

    async def gone(*_arguments: object, **_more: object) -> None:
        raise StoreUnavailableError("the database failed: it is gone", fix="check that it can be reached")

    monkeypatch.setattr(api.serving._store._database, "read", gone)
    ready = await api.client.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "the database doesn't answer")
    answer = await api.client.get("/api/v1/flows")
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert (await api.client.get("/healthz")).status_code == 200
    monkeypatch.undo()
    assert (await api.client.get("/readyz")).status_code == 200


async def test_metrics_count_runs_and_requests(api: Api) -> None:
    await api.call("POST", "/execute", json={"language": "shell", "code": "exit 3"})
    await api.call("GET", "/runs/7ZZ", 404)
    answer = await api.client.get("/metrics")
    assert answer.status_code == 200
    text = answer.text
    for line in (
        'stepbox_runs_total{flow="exec",status="failed"} 1.0',
        'stepbox_attempts_total{status="failed"} 1.0',
        "stepbox_queued_runs 0.0",
        "stepbox_driven_runs 0.0",
        "stepbox_ready_sandboxes ",
        'stepbox_http_requests_total{method="GET",route="/api/v1/runs/{run}",status="404"} 1.0',
        "stepbox_http_request_seconds_bucket{",
        "stepbox_run_seconds_count 1.0",
        "process_resident_memory_bytes",
    ):
        assert line in text, line


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/flows?limit=1&limit=2", "comes 2 times"),
        ("/flows/quick?limit=1", "no query parameter 'limit'"),
        ("/runs?stats=failed", "no query parameter 'stats'"),
        ("/runs?status=failed&status=succeeded", "comes 2 times"),
        ("/tokens?%00=1", "no query parameter"),
        ("/secrets?a", "no query parameter"),
    ],
)
async def test_a_query_parameter_is_known_and_comes_once(api: Api, path: str, said: str) -> None:
    refused = await api.call("GET", path, 422)
    assert (refused["code"], said in refused["detail"]) == ("invalid_request", True), refused


@pytest.mark.parametrize(
    "path",
    [
        "/flows/..%2f..%2fetc%2fpasswd",
        "/flows/a%00b",
        "/flows/%ff%fe",
        "/flows/" + "a" * 5000,
        "/runs/%2e%2e",
        "/runs/01%0d%0aX-Evil:1",
        "/artifacts/..%2f..%2fsecret.key",
        "/artifacts/%00",
        "/secrets/hook%2fkey",
        "/secrets/%c0%af",
        "/approvals/%25s",
        "/events/%20",
    ],
)
async def test_hostile_names_in_paths_are_refused(api: Api, path: str) -> None:
    for method in ("GET", "PUT", "DELETE", "POST"):
        answer = await api.client.request(method, f"/api/v1{path}", json={})
        assert answer.status_code in {404, 405, 422}, (method, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    "sent_as", ["text/plain", "application/xml", "multipart/form-data; boundary=x", "nonsense", ""]
)
async def test_a_body_of_another_content_type_is_refused(api: Api, sent_as: str) -> None:
    headers = {"Content-Type": sent_as}
    for method, path in (("POST", "/execute"), ("PUT", "/secrets/hook_key"), ("POST", "/runs"), ("POST", "/prune")):
        answer = await api.client.request(method, f"/api/v1{path}", content=b"value=1", headers=headers)
        assert answer.status_code in {400, 422}, (path, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
