"""What a webhook costs: from a signed request to its answer, and to the beginning of its run's first step.

Requests go over loopback to a ``stepbox serve`` of its own, one after the other, each once the run before has ended.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.figures import Figure

REQUESTS = 40
"""For each round."""
DEADLINE = 60.0
KEY = b"a key of 24 bytes, or so"
FLOW = """\
flow: hooked
inputs: {n: {type: integer}}
triggers:
  - id: hook
    webhook: {path: hooked, secret: hook_key}
    with: {n: "${{ event.body.n }}"}
steps:
  - id: one
    shell: echo $INPUT_N
    with: {n: "${{ inputs.n }}"}
"""


def measure(rounds: int) -> Iterator[Figure]:
    accepted: list[float] = []
    begun: list[float] = []
    with _serving() as (port, token), closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        _call(connection, "PUT", "/api/v1/flows/hooked", {"text": FLOW}, token)
        for number in range(rounds * REQUESTS + 5):
            sent, answered, run = _request(connection, number)
            attempts = _ended(connection, run, token)
            if number >= 5:
                accepted.append(1000 * (answered - sent))
                begun.append(1000 * (datetime.fromisoformat(attempts[0]["started_at"]).timestamp() - sent))
    yield Figure(key="webhook_accepted", name="a signed webhook: accepted", unit="ms", samples=accepted)
    yield Figure(key="webhook_begun", name="a signed webhook: its run's first step begun", unit="ms", samples=begun)


def _request(connection: http.client.HTTPConnection, number: int) -> tuple[float, float, str]:
    body = json.dumps({"n": number}).encode()
    moment = int(time.time())
    signature = hmac.digest(KEY, b"m%d.%d.%s" % (number, moment, body), hashlib.sha256)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": f"m{number}",
        "webhook-timestamp": str(moment),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
    }
    sent = time.time()
    connection.request("POST", "/hooks/hooked", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    answered = time.time()
    assert answer.status == 202, content
    run: str = json.loads(content)["run"]
    return sent, answered, run


def _ended(connection: http.client.HTTPConnection, run: str, token: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + DEADLINE
    while _call(connection, "GET", f"/api/v1/runs/{run}", None, token)["status"] != "succeeded":
        assert time.monotonic() < deadline, f"run {run} doesn't end"
        time.sleep(0.02)
    items: list[dict[str, Any]] = _call(connection, "GET", f"/api/v1/runs/{run}/steps", None, token)["items"]
    return items


def _call(connection: http.client.HTTPConnection, method: str, path: str, body: object, token: str) -> Any:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status < 300, content
    return json.loads(content)


@contextmanager
def _serving() -> Iterator[tuple[int, str]]:
    stepbox = Path(sys.executable).parent / "stepbox"
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "STEPBOX_HOME": home, "STEPBOX_RUNNER": "nsjail"}
        secret = f"whsec_{base64.b64encode(KEY).decode()}"
        subprocess.run(
            [stepbox, "secrets", "set", "hook_key"],
            input=secret.encode(),
            env=environment,
            check=True,
            capture_output=True,
        )
        printed = Path(home) / "printed"
        with printed.open("w") as out, (Path(home) / "log").open("w") as log:
            process = subprocess.Popen(
                [stepbox, "serve", "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=environment,
            )
            try:
                deadline = time.monotonic() + DEADLINE
                while not (token := re.search(r"stp_\S+", printed.read_text())) or not _answers(port):
                    assert process.poll() is None, (Path(home) / "log").read_text()
                    assert time.monotonic() < deadline, "the service doesn't start"
                    time.sleep(0.05)
                yield port, token[0]
            finally:
                process.terminate()
                process.wait(timeout=DEADLINE)


def _answers(port: int) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
    except OSError:
        return False
