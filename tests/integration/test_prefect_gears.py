"""The two ways Prefect runs a flow: embedded without any connection, and on a real Prefect server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.values import Json

BIN = Path(sys.executable).parent

FLOW = """
flow: gears
steps:
  - {id: first, tool: workspace.create_doc, with: {docId: a, content: text}}
  - {id: flaky, tool: workspace.open_resource, with: {sourceKind: doc, sourceId: absent},
     retry: {attempts: 2, delay: 10ms}, on_error: continue}
  - {id: each, tool: workspace.create_task, for_each: {in: [a, b]}, with: {title: "${{ item }}", statusId: open}}
  - {id: again, tool: workspace.search_tasks, with: {}, cache: {ttl: 1m}, timeout: 20s}
output: ${{ size(steps.again.result) }}
"""

WATCH = """
import os, sys
def hook(event, arguments):
    if event in {"socket.getaddrinfo", "socket.gethostbyname"} or (
        event == "socket.connect" and not isinstance(arguments[1], (str, bytes))
    ):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {arguments[1:]!r}\\n")
sys.addaudithook(hook)
"""


def call(flow: Path, home: Path, **environment: str) -> tuple[int, Json]:
    """Run a flow by the command line and give its exit status and its JSON document."""
    done = subprocess.run(
        [BIN / "stepbox", "run", flow, "--output", "json"],
        check=False,
        capture_output=True,
        text=True,
        timeout=170,
        env={**os.environ, "STEPBOX_HOME": str(home), **environment},
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    path = tmp_path / "gears.yaml"
    path.write_text(FLOW)
    return path


def test_the_embedded_gear_connects_to_nothing(flow: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    watched = tmp_path / "watched"
    watched.touch()
    status, document = call(flow, tmp_path / "home", PYTHONPATH=str(tmp_path), WATCHED=str(watched))
    assert status == 0, document
    assert document["output"] == 2
    assert document["steps"]["flaky"]["attempts"] == 2
    assert watched.read_text() == ""
    probe = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)"
    subprocess.run(
        [sys.executable, "-c", probe],
        check=False,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "WATCHED": str(watched)},
    )
    assert "socket.connect" in watched.read_text(), "the watch would not have seen a connection"


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [BIN / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        deadline = time.monotonic() + 120
        while not _healthy(url):
            assert server.poll() is None, (home / "server.log").read_text()
            assert time.monotonic() < deadline, (home / "server.log").read_text()
            time.sleep(0.3)
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_on_a_server_the_flow_run_and_its_task_runs_are_visible(
    flow: Path, tmp_path: Path, prefect_server: str
) -> None:
    status, document = call(flow, tmp_path / "home", STEPBOX_PREFECT_API_URL=prefect_server)
    assert status == 0, document
    assert document["output"] == 2
    with httpx.Client(base_url=prefect_server, timeout=30) as api:
        (flow_run,) = api.post("/flow_runs/filter", json={"flows": {"name": {"any_": ["gears"]}}}).json()
        assert flow_run["name"] == document["run_id"]
        assert flow_run["state_type"] == "COMPLETED"
        wanted = {
            "first": "COMPLETED",
            "flaky": "FAILED",
            "each[0]": "COMPLETED",
            "each[1]": "COMPLETED",
            "again": "COMPLETED",
        }
        deadline = time.monotonic() + 60
        while True:
            tasks = api.post(
                "/task_runs/filter", json={"flow_runs": {"id": {"any_": [flow_run["id"]]}}, "limit": 200}
            ).json()
            if {task["name"]: task["state_type"] for task in tasks} == wanted:
                break
            assert time.monotonic() < deadline, tasks
            time.sleep(0.5)
        (flaky,) = [task for task in tasks if task["name"] == "flaky"]
        assert flaky["empirical_policy"]["retries"] == 1
        assert flaky["run_count"] == 2


def test_a_failed_run_is_failed_on_the_server_too(tmp_path: Path, prefect_server: str) -> None:
    flow = tmp_path / "failing.yaml"
    flow.write_text(
        "flow: failing\nsteps: [{id: a, tool: workspace.open_resource, with: {sourceKind: doc, sourceId: absent}}]"
    )
    status, _document = call(flow, tmp_path / "home", STEPBOX_PREFECT_API_URL=prefect_server)
    assert status == 1
    found = httpx.post(
        f"{prefect_server}/flow_runs/filter", json={"flows": {"name": {"any_": ["failing"]}}}, timeout=30
    ).json()
    assert [run["state_type"] for run in found] == ["FAILED"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_ends_as_without_a_server(tmp_path: Path, prefect_server: str, how: signal.Signals) -> None:
    works = tmp_path / "home/shared/works"
    (tmp_path / "child.yaml").write_text("""
flow: child
steps:
  - id: a
    shell: "tool files.write '{\\"path\\": \\"works\\", \\"content\\": \\"x\\"}'; sleep 100"
    tools: [files.write]
    limits: {timeout: 2m}
finally: [{id: z, tool: workspace.create_task, with: {title: tidy, statusId: open}}]
""")
    (tmp_path / "parent.yaml").write_text("""
flow: parent
steps: [{id: sub, flow: child}]
finally: [{id: z, tool: workspace.create_task, with: {title: tidy, statusId: open}}]
""")
    process = subprocess.Popen(
        [BIN / "stepbox", "run", tmp_path / "parent.yaml", "--output", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "STEPBOX_HOME": str(tmp_path / "home"), "STEPBOX_PREFECT_API_URL": prefect_server},
    )
    deadline = time.monotonic() + 100
    while not works.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=100)
    assert (process.returncode, "Traceback" in stderr) == (130, False), stderr
    document = json.loads(stdout)
    statuses = {step: one["status"] for step, one in document["steps"].items()}
    assert (document["status"], statuses) == ("cancelled", {"sub": "cancelled", "z": "succeeded"})


def test_a_server_that_is_not_there_is_a_clear_error(flow: Path, tmp_path: Path) -> None:
    status, document = call(flow, tmp_path / "home", STEPBOX_PREFECT_API_URL="http://127.0.0.1:9/api")
    assert status == 1
    assert document["error"]["code"] == "prefect_unavailable"
    assert "STEPBOX_PREFECT_API_URL" in document["error"]["fix"]
