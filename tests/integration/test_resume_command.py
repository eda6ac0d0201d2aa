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

from engine.bootstrap import open_service
from engine.progress import NoObserver
from engine.runs import NotResumableError
from engine.store.errors import RunDrivenError
from flows.values import Json, RunStatus
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


@pytest.fixture
def killed(tmp_path: Path, server: Server) -> Iterator["Killed"]:
    (tmp_path / "resumed.yaml").write_text(FLOW.format(address=server.address))
    (tmp_path / "part.yaml").write_text(PART)
    (tmp_path / "shout.sh").write_text('echo "$INPUT_ANSWER!"')
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    killed = Killed(tmp_path, server)
    yield killed
    killed.kill()


class Killed:
    """A run whose command is killed during the call of its subflow."""

    def __init__(self, directory: Path, server: Server) -> None:
        self._directory = directory
        self._server = server
        self._process: subprocess.Popen[str] | None = None

    def begin(self, command: Command) -> int:
        """Run the flow, up to the call; gives the command's process."""
        self._process = command.begin("run", "resumed.yaml")
        assert self._server.asked.wait(120)
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        # What the run is of is in the store: neither the flow nor its parts are read again.
        for name in ("resumed.yaml", "part.yaml", "shout.sh"):
            (self._directory / name).write_text("something else")


async def test_a_run_whose_command_was_killed_is_resumed(
    tmp_path: Path, server: Server, killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = Command(tmp_path, server)
    pid = killed.begin(command)
    monkeypatch.setenv("STEPBOX_HOME", str(tmp_path / "home"))
    async with open_service() as service:
        part, main = (await service.runs(flow=None, status=None, limit=10)).items
        assert (main.status, main.abandoned, part.parent_id) == (RunStatus.RUNNING, False, main.id)
        assert await service.abandoned() == []
        with pytest.raises(RunDrivenError, match=f"is driven by process {pid} of this machine"):
            await service.resume(main.id, NoObserver())
        killed.kill()
        assert [run.id for run in await service.abandoned()] == [main.id]
        assert [run.abandoned for run in (await service.runs(flow=None, status=None, limit=10)).items] == [True, True]
        with pytest.raises(NotResumableError, match=f"is a part of run {main.id}") as refused:
            await service.resume(part.id, NoObserver())
        assert refused.value.fix == f"stepbox runs resume {main.id}"

        assert command("runs", "list").stdout.count("▸ abandoned") == 2
        assert f"stepbox runs resume {main.id}" in command("runs", "show", main.id).stdout
        resumed = command("runs", "resume", main.id[:-2].lower(), "--output", "json")
        assert resumed.returncode == 0, (resumed.stdout, resumed.stderr)
        document = json.loads(resumed.stdout)
        assert (document["run_id"], document["status"], document["output"]) == (main.id, "succeeded", "hi!")
        attempts = {name: step["attempts"] for name, step in document["steps"].items()}
        assert attempts == {"load": 1, "part": 2, "load_more": 1}
        after = (await service.runs(flow=None, status=None, limit=10)).items
        assert [(run.id, run.status) for run in after] == [(run.id, RunStatus.SUCCEEDED) for run in (part, main)]
        with pytest.raises(NotResumableError, match="has already succeeded"):
            await service.resume(main.id, NoObserver())


def test_on_a_prefect_server_too(tmp_path: Path, server: Server, killed: Killed, prefect_server: str) -> None:
    command = Command(tmp_path, server, STEPBOX_PREFECT_API_URL=prefect_server)
    killed.begin(command)
    killed.kill()
    (document,) = command.json("runs", "resume")
    assert (document["status"], document["output"]) == ("succeeded", "hi!")
    with httpx.Client(base_url=prefect_server, timeout=30) as api:
        wanted = {"flow_runs": {"name": {"any_": [document["run_id"]]}}}
        found = api.post("/flow_runs/filter", json=wanted).json()
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
    resumed = command("runs", "resume")
    assert (resumed.returncode, resumed.stdout.strip()) == (0, '"hi"'), resumed.stderr
    nothing = command("runs", "resume")
    assert (nothing.returncode, nothing.stdout, nothing.stderr.strip()) == (0, "", "no runs to continue")
