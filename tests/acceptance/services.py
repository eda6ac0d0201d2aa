"""``stepbox serve`` as a process of its own, for tests."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from flows.values import Json
from tests.acceptance.conftest import Stepbox

QUICK = """\
flow: quick
inputs: {n: {type: integer, default: 1}}
steps:
  - id: one
    shell: echo "n is $INPUT_N"
    with: {n: "${{ inputs.n }}"}
output: ${{ steps.one.result }}
"""
NAPS = """\
flow: naps
inputs: {seconds: {type: number}}
steps:
  - id: nap
    shell: echo begun; sleep $INPUT_SECONDS; echo slept
    with: {seconds: "${{ inputs.seconds }}"}
    limits: {timeout: 120s}
output: ${{ steps.nap.result }}
finally:
  - id: last
    shell: echo cleaned up
"""
DEADLINE = 60.0
"""Seconds after which something that should have happened never will."""


@dataclass(kw_only=True)
class Service:
    """A running ``stepbox serve``."""

    stepbox: Stepbox
    process: subprocess.Popen[str]
    port: int
    token: str
    stdout: Path
    stderr: Path
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}/api/v1", headers=headers, timeout=DEADLINE)

    def call(self, method: str, path: str, **given: Json) -> Json:
        answer = self.client.request(method, path, **given)
        assert answer.is_success, answer.text
        return answer.json()

    def log(self) -> list[dict[str, Json]]:
        return [json.loads(line) for line in self.stderr.read_text().splitlines()]

    def said(self, event: str) -> bool:
        return any(entry["event"].startswith(event) for entry in self.log())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=DEADLINE)

    def environment(self) -> dict[str, str]:
        return {"STEPBOX_URL": f"http://127.0.0.1:{self.port}", "STEPBOX_TOKEN": self.token}


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def serving(stepbox: Stepbox, *arguments: str, token: str = "", **environment: str) -> Iterator[Service]:
    """A service on a free port. ``token`` is one that an earlier start printed."""
    port = free_port()
    number = len(list(stepbox.directory.glob("serve-*.out")))
    stdout, stderr = (stepbox.directory / f"serve-{number}.{end}" for end in ("out", "err"))
    with stdout.open("w") as out, stderr.open("w") as err:
        process = subprocess.Popen(
            [stepbox.bin / "stepbox", "serve", "--port", str(port), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            text=True,
            cwd=stepbox.directory,
            env={**stepbox.environment, "STEPBOX_RUNNER": "nsjail", **environment},
            start_new_session=True,
        )
    try:
        until(lambda: process.poll() is not None or "listening" in stderr.read_text())
        assert process.poll() is None, stderr.read_text()
        printed = re.search(r"stp_\S+", stdout.read_text())
        until(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").is_success)
        service = Service(
            stepbox=stepbox,
            process=process,
            port=port,
            token=printed[0] if printed else token,
            stdout=stdout,
            stderr=stderr,
        )
        with service.client:
            yield service
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=DEADLINE)


def begun(service: Service, run: str) -> bool:
    """Whether the code of the run has printed something."""
    return bool(service.call("GET", f"/runs/{run}/logs")["items"])
