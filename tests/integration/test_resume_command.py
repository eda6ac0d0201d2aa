"""``stepbox runs resume`` on runs whose command was killed, in both of Prefect's gears."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from flows.values import Json
from tests.integration.test_prefect_gears import prefect_server

__all__ = ["prefect_server"]

BIN = Path(sys.executable).parent
FLOW = """
flow: resumed
inputs: {{address: {{type: string, default: "{address}"}}}}
steps:
  - {{id: load, tool: workspace.import_file, with: {{fileId: data, path: data.csv}}}}
  - {{id: part, flow: part, with: {{address: "${{{{ inputs.address }}}}"}}}}
  - {{id: load_more, tool: workspace.import_file, with: {{fileId: more, path: data.csv}}}}
output: ${{{{ steps.part.result }}}}
"""
PART = """
flow: part
inputs: {address: {type: string}}
steps:
  - id: ask
    tool: http.request
    with: {url: "http://${{ inputs.address }}/", timeout: 300}
  - id: shout
    shell: {file: shout.sh}
    with: {answer: "${{ steps.ask.result.body }}"}
output: ${{ steps.shout.result }}
"""


class Server(ThreadingHTTPServer):
    """Answers the second request and all after it; the first one waits."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = threading.Event()
        self.released = threading.Event()
        self.requests = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Server)
        self.server.requests += 1
        if self.server.requests == 1:
            self.server.asked.set()
            self.server.released.wait(120)
            return
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Command:
    """The command line in one home."""

    def __init__(self, directory: Path, server: Server, **environment: str) -> None:
        self.directory = directory
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STEPBOX_", "PREFECT_"))}
        self._environment = {
            **kept,
            "STEPBOX_HOME": str(directory / "home"),
            "STEPBOX_INTERNAL": server.address,
            "STEPBOX_RUNNER": "nsjail",
            **environment,
        }

    def __call__(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [BIN / "stepbox", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=170,
            env=self._environment,
            cwd=self.directory,
        )

    def json(self, *arguments: str) -> Json:
        return json.loads(self(*arguments, "--output", "json").stdout)

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [BIN / "stepbox", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self._environment,
            cwd=self.directory,
        )


@pytest.mark.parametrize("gear", ["embedded", "server"])
def test_a_run_whose_command_was_killed_is_resumed(
    gear: str, tmp_path: Path, server: Server, request: pytest.FixtureRequest
) -> None:
    more = {"STEPBOX_PREFECT_API_URL": request.getfixturevalue("prefect_server")} if gear == "server" else {}
    command = Command(tmp_path, server, **more)
    (tmp_path / "resumed.yaml").write_text(FLOW.format(address=server.address))
    (tmp_path / "part.yaml").write_text(PART)
    (tmp_path / "shout.sh").write_text('echo "$INPUT_ANSWER!"')
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    process = command.begin("run", "resumed.yaml")
    try:
        assert server.asked.wait(120)
        (driven,) = [run for run in command.json("runs", "list") if run["parent_id"] is None]
        assert (driven["status"], driven["abandoned"]) == ("running", False)
        refused = command("runs", "resume", driven["run_id"], "--output", "json")
        assert refused.returncode == 2
        assert json.loads(refused.stdout)["error"]["code"] == "run_driven"
        assert f"is driven by process {process.pid} of this machine" in refused.stdout
        assert command.json("runs", "resume") == []
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    run_id = driven["run_id"]

    # What the run is of is in the store: neither the flow nor its parts are read again.
    for name in ("resumed.yaml", "part.yaml", "shout.sh"):
        (tmp_path / name).write_text("something else")
    listed = command("runs", "list")
    assert listed.stdout.count("▸ abandoned") == 2
    shown = command("runs", "show", run_id)
    assert f"stepbox runs resume {run_id}" in shown.stdout
    assert command.json("runs", "show", run_id)["abandoned"] is True
    (child,) = [run for run in command.json("runs", "list") if run["parent_id"] == run_id]
    refused = command("runs", "resume", child["run_id"], "--output", "json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (2, "not_resumable")
    assert f"stepbox runs resume {run_id}" in refused.stdout

    resumed = command("runs", "resume", run_id[:-2].lower(), "--output", "json")
    assert resumed.returncode == 0, (resumed.stdout, resumed.stderr)
    document = json.loads(resumed.stdout)
    assert (document["run_id"], document["status"], document["output"]) == (run_id, "succeeded", "hi!")
    assert {name: step["attempts"] for name, step in document["steps"].items()} == {
        "load": 1,
        "part": 2,
        "load_more": 1,
    }
    runs = command.json("runs", "list")
    assert {run["run_id"]: run["status"] for run in runs} == dict.fromkeys((run_id, child["run_id"]), "succeeded")
    again = command("runs", "resume", run_id, "--output", "json")
    assert (again.returncode, json.loads(again.stdout)["error"]["code"]) == (2, "not_resumable")
    if gear == "server":
        with httpx.Client(base_url=more["STEPBOX_PREFECT_API_URL"], timeout=30) as api:
            found = api.post("/flow_runs/filter", json={"flow_runs": {"name": {"any_": [run_id]}}}).json()
        assert [run["state_type"] for run in found].count("COMPLETED") == 1


def test_all_abandoned_runs_are_resumed(tmp_path: Path, server: Server) -> None:
    command = Command(tmp_path, server)
    (tmp_path / "waits.yaml").write_text(
        f"flow: waits\nsteps: [{{id: ask, tool: http.request, with: {{url: 'http://{server.address}/', timeout: 300}}}}]\n"
        "output: ${{ steps.ask.result.body }}"
    )
    process = command.begin("run", "waits.yaml")
    try:
        assert server.asked.wait(120)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    (document,) = command.json("runs", "resume")
    assert (document["status"], document["output"]) == ("succeeded", "hi")
    nothing = command("runs", "resume")
    assert (nothing.returncode, nothing.stdout, nothing.stderr.strip()) == (0, "", "no abandoned runs")
    unknown = command("runs", "resume", "01NOPE", "--output", "json")
    assert (unknown.returncode, json.loads(unknown.stdout)["error"]["code"]) == (2, "unknown_record")
