"""A ``stepbox serve`` of the benchmarks' own, as a process, and how to talk to it."""

import base64
import hashlib
import hmac
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from uuid import uuid4

import psycopg

DEADLINE: Final = 60.0
"""Seconds after which what doesn't happen is an error."""
TOKEN: Final = "a-token-of-the-benchmarks-0123456789"
POSTGRES: Final = "STEPBOX_TEST_POSTGRES_URL"
PAGE: Final = 1000
IDLE: Final = 3.0
"""Seconds after which a connection is made anew: the service closes one that says nothing for five."""
_KEY: Final = b"a key of 24 bytes, or so"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Answer(NamedTuple):
    """``took`` is in milliseconds, ``sent`` in seconds since 1970."""

    content: bytes
    sent: float
    took: float

    @property
    def document(self) -> Any:
        return json.loads(self.content)


class Client:
    """One connection to a service. Everything but an answer of success is an error."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
        self._used = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: object = None, *, kind: str = "application/json") -> Answer:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        return self._request(method, path, None if body is None else json.dumps(body).encode(), headers)

    def pages(self, path: str) -> Iterator[Any]:
        """Everything in a listing."""
        cursor = ""
        while True:
            document = self.call("GET", f"{path}?limit={PAGE}{cursor}").document
            yield from document["items"]
            if document["next"] is None:
                return
            cursor = f"&cursor={document['next']}"

    def webhook(self, path: str, number: int) -> Answer:
        """Send a signed request with ``n``."""
        body = json.dumps({"n": number}).encode()
        moment = int(time.time())
        identity = f"m{uuid4().hex}"
        signature = hmac.digest(_KEY, f"{identity}.{moment}.".encode() + body, hashlib.sha256)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": identity,
            "webhook-timestamp": str(moment),
            "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        }
        return self._request("POST", f"/hooks/{path}", body, headers)

    def events(self, type_: str, numbers: range) -> Answer:
        """Send a batch of CloudEvents with ``n``."""
        batch = [
            {"specversion": "1.0", "id": uuid4().hex, "source": "bench", "type": type_, "data": {"n": number}}
            for number in numbers
        ]
        return self.call("POST", "/api/v1/events", batch, kind="application/cloudevents-batch+json")

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        if time.monotonic() - self._used > IDLE:
            self._connection.close()
            self._connection.connect()
        sent, began = time.time(), time.perf_counter()
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        content = answer.read()
        took = 1000 * (time.perf_counter() - began)
        self._used = time.monotonic()
        if not 200 <= answer.status < 300:
            raise RuntimeError(f"{method} {path} was answered {answer.status}: {content.decode(errors='replace')}")
        return Answer(content, sent, took)


class Served:
    """A service that goes on."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self._process = Path(f"/proc/{pid}")

    def client(self) -> Client:
        return Client(self.port)

    def memory(self) -> float:
        """What the service holds resident, in MB; its sandboxes are not counted."""
        status = dict(line.split(":", 1) for line in (self._process / "status").read_text().splitlines())
        return int(status["VmRSS"].split()[0]) * 1024 / 1e6

    def processor_time(self) -> float:
        """What the service has used, in milliseconds; its sandboxes are not counted."""
        fields = (self._process / "stat").read_text().rpartition(")")[2].split()
        return 1000 * (int(fields[11]) + int(fields[12])) / _TICKS

    def runs_ended(self, client: Client) -> int:
        """How many runs have ended since its start; subflows are not counted."""
        text = client.call("GET", "/metrics").content.decode()
        return sum(
            int(float(line.rpartition(" ")[2])) for line in text.splitlines() if line.startswith("stepbox_runs_total{")
        )


def databases() -> Mapping[str, str]:
    """What to measure with, by name: SQLite, and PostgreSQL where scripts/services.py has started a server."""
    return {"SQLite": "", **({"PostgreSQL": os.environ[POSTGRES]} if POSTGRES in os.environ else {})}


@contextmanager
def serving(server: str = "", *flows: str) -> Iterator[Served]:
    """A service with these flows, on a new database of the PostgreSQL ``server``, or on SQLite where that is empty."""
    stepbox = Path(sys.executable).parent / "stepbox"
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as home, _database(server) as url:
        environment = {
            **os.environ,
            "STEPBOX_HOME": home,
            "STEPBOX_RUNNER": "nsjail",
            "STEPBOX_ADMIN_TOKEN": TOKEN,
            **({"STEPBOX_DATABASE_URL": url} if url else {}),
        }
        secret = f"whsec_{base64.b64encode(_KEY).decode()}"
        subprocess.run(
            [stepbox, "secrets", "set", "hook_key"],
            input=secret.encode(),
            env=environment,
            check=True,
            capture_output=True,
        )
        with (Path(home) / "log").open("w") as log:
            process = subprocess.Popen(
                [stepbox, "serve", "--port", str(port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
            try:
                deadline = time.monotonic() + DEADLINE
                while not _answers(port):
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"the service doesn't start: {(Path(home) / 'log').read_text()}")
                    time.sleep(0.05)
                served = Served(port, process.pid)
                with served.client() as client:
                    for text in flows:
                        name = text.split(maxsplit=2)[1]
                        client.call("PUT", f"/api/v1/flows/{name}", {"text": text})
                yield served
            finally:
                process.terminate()
                process.wait(timeout=DEADLINE)


@contextmanager
def _database(server: str) -> Iterator[str]:
    if not server:
        yield ""
        return
    name = f"bench_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            yield f"{server.rpartition('/')[0]}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _answers(port: int) -> bool:
    with suppress(OSError), closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    return False
