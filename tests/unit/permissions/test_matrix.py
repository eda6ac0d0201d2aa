"""Every operation × role: what the matrix says is what the service, the API and the command line do."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import typer

import engine.bootstrap
from engine.service import SentRequest, Service, Serving
from flows.errors import StepboxError
from flows.values import Json
from tests.unit.permissions.matrix import COMMANDS, OPEN, PEOPLE, ROUTES, SERVING, USE_CASES
from tests.unit.permissions.reached import FLOW, TEXT, Answering, NoServing, Nothing, given, is_let_through, service_of
from ui.api.app import create_app
from ui.cli import app as cli
from ui.cli import doors

BODIES: dict[str, Json] = {
    "applyFlows": {"flows": [{"text": TEXT}]},
    "validateFlow": {"text": TEXT},
    "applyFlow": {"text": TEXT},
    "startRun": {},
    "startTrial": {"flow": {"text": TEXT}},
    "retryRun": {},
    "execute": {"language": "shell", "code": "echo"},
    "executeImage": {"image": "alpine"},
    "approve": {},
    "reject": {},
    "linkApproval": {"principal": "ann"},
    "sendEvents": {"specversion": "1.0", "id": "1", "source": "/x", "type": "x"},
    "setSecret": {"value": "x"},
    "setPolicy": {"policy": {}},
    "rotateSecret": {"value": "x"},
    "rotateSecretKey": {},
    "verifyAudit": {},
    "createToken": {"name": "ann"},
    "createPrincipal": {"name": "ann", "role": "viewer"},
    "setRole": {"role": "viewer"},
    "grantPrincipal": {"tools": ["*"]},
    "revokeGrants": {"tools": ["*"]},
    "createWorkspace": {"name": "dev"},
    "prune": {},
}
PATHS = {
    "flow": "greet",
    "run": "01K6",
    "version": "1",
    "artifact": "01K6ZQ7B3C5D7E9F1G3H5J7K9M",
    "approval": "01K6",
    "event": "01K6",
    "secret": "key",
    "token_id": "abc",
    "principal": "ann",
    "workspace": "ops",
    "hook": "x",
}
DOCUMENT = create_app(cast("Serving", None), max_body=1).openapi()
OPERATIONS = {
    one["operationId"]: (method.upper(), path)
    for path, operations in DOCUMENT["paths"].items()
    for method, one in operations.items()
}


def of_protocol(protocol: type) -> set[str]:
    return {name for name, _one in inspect.getmembers(protocol, inspect.isfunction) if not name.startswith("_")}


def commands(command: Any, *names: str) -> dict[str, Any]:
    if hasattr(command, "commands"):
        below = (commands(one, *names, name) for name, one in command.commands.items())
        return {name: one for each in below for name, one in each.items()}
    return {" ".join(names): command}


ALL_COMMANDS = commands(typer.main.get_command(cli.app))


def command_of(line: str) -> str:
    return next(name for name in (" ".join(line.split()[:count]) for count in (2, 1)) if name in ALL_COMMANDS)


def test_no_operation_is_missing() -> None:
    assert of_protocol(Service) == set(USE_CASES)
    assert of_protocol(Serving) == set(SERVING)
    assert set(OPERATIONS) == set(ROUTES)
    assert set(ALL_COMMANDS) == {command_of(line) for line in COMMANDS}


@pytest.mark.parametrize("name", sorted(USE_CASES))
async def test_a_use_case_lets_through_whom_it_should(name: str) -> None:
    let_through = set()
    for who, principal in PEOPLE.items():
        use_case = getattr(service_of(principal), name)
        arguments = given(use_case, **({"flow": FLOW} if name == "load" else {}))
        if await is_let_through(lambda use_case=use_case, arguments=arguments: use_case(**arguments)):  # type: ignore[misc]
            let_through.add(who)
    assert let_through == USE_CASES[name]


@pytest.mark.parametrize("name", [name for name, who in SERVING.items() if who is not OPEN])
async def test_a_service_that_goes_on_lets_through_whom_it_should(name: str) -> None:
    let_through = set()
    for who, principal in PEOPLE.items():
        use_case = getattr(NoServing(), name)
        request = SentRequest(method="POST", headers=(), query="", body=b"")
        arguments = given(use_case, principal=principal, request=request)
        if await is_let_through(lambda use_case=use_case, arguments=arguments: use_case(**arguments)):  # type: ignore[misc]
            let_through.add(who)
    assert let_through == SERVING[name]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(NoServing(), max_body=100_000)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://stepbox") as client:
        yield client


@pytest.mark.parametrize("operation", sorted(ROUTES))
async def test_a_route_lets_through_whom_it_should(client: httpx.AsyncClient, operation: str) -> None:
    method, path = OPERATIONS[operation]
    body = {"json": BODIES[operation]} if operation in BODIES else {}
    url = path.format(**PATHS)
    if ROUTES[operation] is OPEN:
        assert (await client.request(method, url)).status_code not in {401, 403}
        return
    let_through = set()
    for who in PEOPLE:
        answer = await client.request(method, url, headers={"Authorization": f"Bearer {who}"}, **body)
        if answer.status_code == 403:
            assert answer.json()["code"] == "forbidden"
        else:
            assert answer.status_code in {200, 201, 204} or answer.json()["code"] == "reached", answer.text
            let_through.add(who)
    assert let_through == ROUTES[operation]


@pytest.mark.parametrize("line", sorted(line for line, who in COMMANDS.items() if who is not OPEN))
def test_a_command_lets_through_whom_it_should(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "greet.yaml"
    file.write_text(TEXT)
    policy = tmp_path / "policy.yaml"
    policy.write_text("concurrent_code: 3\n")
    files = {"FILE": str(file), "POLICY": str(policy)}
    (tmp_path / "value").write_text("value")
    problems: list[StepboxError] = []
    monkeypatch.setattr(doors, "show_error", lambda problem, _output: problems.append(problem))
    let_through = set()
    for who, principal in PEOPLE.items():

        @asynccontextmanager
        async def open_service(principal: Any = principal) -> AsyncIterator[Service]:
            yield Answering(Nothing(), principal)  # type: ignore[arg-type]

        monkeypatch.setattr(engine.bootstrap, "open_service", open_service)
        problems.clear()
        arguments = [files.get(word, word) for word in line.split()]
        with (tmp_path / "value").open() as standard_input:
            monkeypatch.setattr("sys.stdin", standard_input)
            cli.app(arguments, standalone_mode=False)
        codes = {problem.code for problem in problems}
        assert codes <= {"forbidden", "reached"}, problems
        if codes != {"forbidden"}:
            let_through.add(who)
    assert let_through == COMMANDS[line]
