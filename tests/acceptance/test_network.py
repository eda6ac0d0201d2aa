"""Code that uses the network, from the flow to what ``runs show`` says about it, over servers on this machine."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.acceptance.conftest import Stepbox
from tests.servers import Authority


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has
        """Say nothing."""


@contextmanager
def serving(tls: ssl.SSLContext) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


FLOW = """
flow: ask
steps:
  - id: python
    python: |
      import requests
      return requests.get("URL").text
    network: {allow: ["localhost:PORT"]}
  - id: javascript
    javascript: return await (await fetch("URL")).text()
    network: {allow: ["localhost:PORT"]}
  - id: shell
    shell: curl -sS URL
    network: {allow: ["localhost:PORT"]}
  - id: elsewhere
    shell: curl -sS https://evil.example/
    network: {allow: ["localhost:PORT"]}
    on_error: continue
  - id: none
    shell: curl -sS https://evil.example/
    on_error: continue
output: ["${{ steps.python.result }}", "${{ steps.javascript.result }}", "${{ steps.shell.result }}"]
"""


def test_what_code_asks_of_the_network_is_decided_recorded_and_shown(stepbox: Stepbox, authority: Authority) -> None:
    with serving(authority.context("localhost")) as port:
        environment = {"STEPBOX_INTERNAL": f"localhost:{port}", "STEPBOX_CA_FILE": str(authority.file)}
        text = FLOW.replace("URL", f"https://localhost:{port}/").replace("PORT", str(port))
        outcome = stepbox("run", stepbox.flow("ask", text), "--output", "json", **environment)
        document = outcome.json()
        assert (outcome.status, document["output"]) == (0, ["hello"] * 3), outcome.stderr
        assert [step["egress"] for step in document["steps"].values()] == [1, 1, 1, 1, 0]
        told = 'evil.example:443 refused: not in network.allow of this step; add it to the step: network: {allow: ["evil.example"]}'
        assert document["steps"]["elsewhere"]["error"]["fix"] == told
        assert document["steps"]["none"]["error"]["fix"].startswith("network is none for this step; declare `network:")

        shown = stepbox("runs", "show", document["run_id"], "--output", "json").json()
        *allowed, refused = shown.pop("egress")
        assert (shown.pop("abandoned"), shown) == (False, document)
        assert [one["step"] for one in allowed] == ["python", "javascript", "shell"]
        for one in allowed:
            assert (one["host"], one["port"], one["allowed"], one["reason"]) == ("localhost", port, True, None)
            assert one["address"] in {"127.0.0.1", "::1"}
            assert one["sent"] > 300
            assert one["received"] > 500
            assert one["started_at"] <= one["ended_at"]
        assert refused["step"] == "elsewhere"
        assert (refused["host"], refused["port"], refused["allowed"]) == ("evil.example", 443, False)
        assert refused["reason"] == "not in network.allow of this step"
        assert (refused["address"], refused["sent"], refused["received"]) == (None, 0, 0)

        table = stepbox("runs", "show", document["run_id"]).stdout
        assert f"localhost:{port}" in table
        assert "refused: not in" in table
        logged = stepbox("runs", "logs", document["run_id"], "--step", "elsewhere").stdout
        assert f"network: {told}" in logged


def test_what_the_administrator_did_not_open_stays_closed(stepbox: Stepbox, authority: Authority) -> None:
    with serving(authority.context("localhost")) as port:
        code = f"curl -sS https://localhost:{port}/"
        allow = f"allow=localhost:{port}"
        refused = stepbox("exec", "-l", "shell", "--network", allow, "--output", "json", stdin=code)
    assert refused.status == 1
    assert refused.json()["egress"] == 1
    assert f"STEPBOX_INTERNAL=localhost:{port}" in refused.json()["stderr"]


def test_authorities_that_can_not_be_read_are_said_before_anything_runs(stepbox: Stepbox) -> None:
    (stepbox.directory / "empty.pem").write_text("nothing")
    for file in ("absent.pem", "empty.pem"):
        call = ("exec", "-l", "python", "--network", "allow=example.com", "--output", "json")
        outcome = stepbox(*call, stdin="return 1", STEPBOX_CA_FILE=file)
        assert (outcome.status, outcome.json()["error"]["code"]) == (3, "ca_file_unreadable")
        assert file in outcome.json()["error"]["message"]
    assert stepbox("exec", "-l", "python", stdin="return 1", STEPBOX_CA_FILE="absent.pem").status == 0
