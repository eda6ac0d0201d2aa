"""A network of named hosts, and ways around it"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.values import StepStatus
from steps.addresses import Endpoint
from steps.allowlist import Allowlist
from steps.sandbox.limits import Language
from steps.sandbox.pool import Sandboxes
from tests.servers import Authority, listening
from tests.worlds import HOST, OTHER, JournalHost, World, networked

attack = pytest.mark.attack


@pytest.fixture
async def world(sandboxes: Sandboxes, tmp_path: Path) -> AsyncIterator[World]:
    async with networked(sandboxes, tmp_path) as made:
        yield made


ASK = """
import os, socket
def ask(head):
    with socket.create_connection(("127.0.0.1", int(os.environ["HTTPS_PROXY"].rsplit(":")[-1]))) as line:
        line.sendall(head)
        answer = b""
        while data := line.recv(65536):
            answer += data
    return answer.decode()
"""


@pytest.mark.both_users
@attack("ask the proxy for another host, written as the allowed one or as an address in any notation", "refused")
async def test_no_spelling_of_a_host_opens_another(world: World) -> None:
    code = f"""{ASK}
hosts = [
    "evil.example.net", "x.HOST", "HOST.evil.example.net", "HOST@evil.example.net", "evil.example.net\\\\.HOST",
    "evil.example.net%00.HOST", "evil.example.net#.HOST", "evil.example.net?.HOST", "localhost", "127.0.0.1", "127.1",
    "0x7f.1", "2130706433", "017700000001", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "169.254.169.254", "metadata.google.internal",
]
return [ask(f"CONNECT {{host}}:PORT HTTP/1.1\\r\\nHost: HOST\\r\\n\\r\\n".encode())[9:12] for host in hosts]
"""
    host = JournalHost()
    outcome = await world.run(code.replace("HOST", HOST).replace("PORT", str(world.secure.port)), host=host)
    assert set(outcome.result) == {"400", "403"}
    assert (len(host.refused), world.names.asked, world.secure.connections) == (20, [], 0)


@attack("send the proxy two requests on a connection, a URL of one host with another as `Host`, two lengths", "refused")
async def test_no_request_means_two_things(world: World) -> None:
    code = f"""{ASK}
host = "OTHER:PORT"
other = "evil.example.net"
get = "GET http://{{0}}/x HTTP/1.1\\r\\nHost: {{1}}\\r\\n\\r\\n"
post = "POST http://{{0}}/x HTTP/1.1\\r\\nHost: {{0}}\\r\\n{{1}}\\r\\n\\r\\n0\\r\\n\\r\\n"
return [
    ask(text.encode()).count("HTTP/1.1 2")
    for text in (
        get.format(host, host) + get.format(other, other),
        get.format(host, other),
        post.format(host, "Content-Length: 5\\r\\nTransfer-Encoding: chunked"),
        post.format(host, "Content-Length: 5\\r\\nContent-Length: 6"),
    )
]
"""
    outcome = await world.run(code.replace("OTHER", OTHER).replace("PORT", str(world.plain.port)))
    assert (outcome.result, outcome.error) == ([1, 0, 0, 0], None)
    assert len(world.plain.heads) == 1


@pytest.mark.every_runner
@pytest.mark.both_users
@attack("pass by the proxy: TCP, UDP, ICMP, look-ups of names, `/etc/hosts`", "an error; nothing is reached")
@pytest.mark.parametrize(
    "code",
    [
        # without the proxy
        "import socket\nsocket.create_connection(('127.0.0.1', PORT), 5)",
        "import socket\nsocket.create_connection(('1.1.1.1', 443), 5)",
        "import requests\ns = requests.Session(); s.trust_env = False\ns.get('SECURE/x', timeout=5)",
        "import subprocess\nsubprocess.run(['curl', '-sS', '--noproxy', '*', 'SECURE/x'], check=True)",
        "import socket\nsocket.getaddrinfo('api.example.com', 443)",
        # other protocols
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))",
        "import socket\nsocket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b'x', ('2606:4700:4700::1111', 53))",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
        # a name of one's own
        "open('/etc/hosts', 'a').write('127.0.0.1 evil.example.net')",
    ],
)
async def test_what_ignores_the_proxy_reaches_nothing(world: World, code: str) -> None:
    outcome = await world.run(code.replace("PORT", str(world.plain.port)))
    assert outcome.status is StepStatus.FAILED
    assert (world.secure.connections, world.plain.connections, outcome.egress) == (0, 0, 0)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import requests\ns = requests.Session(); s.trust_env = False\ns.get('SECURE/x')"),
        ("shell", "curl -sS --noproxy '*' SECURE/x"),
    ],
)
async def test_who_ignores_the_proxy_is_told_to_use_it(world: World, language: Language, code: str) -> None:
    outcome = await world.run(code, language)
    assert outcome.error is not None
    assert "let the client use HTTPS_PROXY" in (outcome.error.fix or "")


@attack("relay one's own connections to the proxy", "the same policy")
async def test_a_relay_of_the_codes_own_is_held_to_the_same_policy(world: World) -> None:
    code = """
import os, socket, threading, urllib.request
def relay(inside):
    outside = socket.create_connection(("127.0.0.1", int(os.environ["HTTPS_PROXY"].rsplit(":")[-1])))
    def pump(a, b):
        while data := a.recv(65536): b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    threading.Thread(target=pump, args=(inside, outside), daemon=True).start()
    pump(outside, inside)
server = socket.create_server(("127.0.0.1", 0))
def serve():
    while True: threading.Thread(target=relay, args=(server.accept()[0],), daemon=True).start()
threading.Thread(target=serve, daemon=True).start()
proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"https": proxy, "http": proxy}))
print(opener.open("SECURE/x").read().decode())
try:
    opener.open("EVIL/")
except OSError as error:
    return str(error)
"""
    host = JournalHost()
    outcome = await world.run(code, host=host)
    assert "world" in outcome.stdout
    assert "not in network.allow of this step" in outcome.result
    assert [one.allowed for one in host.decisions] == [True, False]


async def test_servers_of_the_step_itself_need_no_proxy(world: World) -> None:
    code = """
import http.server, threading, requests
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
return requests.get(f"http://127.0.0.1:{server.server_port}/").status_code
"""
    outcome = await world.run(code)
    assert (outcome.result, outcome.egress) == (200, 0)


@pytest.mark.every_runner
@attack("take the proxy's port, or inherit its socket", "`EADDRINUSE`; no socket is inherited")
async def test_code_cannot_take_the_proxys_place(world: World) -> None:
    """Its own processes could be asked for what they must not see; the place is taken before they run."""
    code = """
import os, socket, stat
port = int(os.environ["HTTPS_PROXY"].rsplit(":")[-1])
def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False
inherited = [number for number in range(1000) if is_socket(number)]
try:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
except OSError as error:
    return [inherited, error.errno]
"""
    outcome = await world.run(code)
    assert (outcome.result, outcome.error) == ([[], 98], None)


@pytest.mark.every_runner
@attack("be served by who has no certificate for the name", "the client refuses")
@pytest.mark.parametrize("language", ["python", "javascript", "shell"])
async def test_a_server_of_another_authority_is_not_trusted(world: World, tmp_path: Path, language: Language) -> None:
    codes: dict[Language, str] = {
        "python": "import requests\nrequests.get('SECURE/x')",
        "javascript": "await fetch('SECURE/x')",
        "shell": "curl -sS SECURE/x",
    }
    job = world.job(codes[language], language)
    assert job.network is not None
    (tmp_path / "stranger").mkdir()
    stranger = replace(job.network, authorities=Authority(tmp_path / "stranger").pem)
    for network in (stranger, replace(job.network, authorities=b"")):
        outcome = await world.execute(replace(job, network=network), JournalHost())
        assert outcome.status is StepStatus.FAILED
        assert outcome.error is not None
        assert "certificate" in outcome.error.message + outcome.stderr
    assert world.secure.heads == []


@attack("open a tunnel to the allowed host, and TLS for another one in it", "alert `unrecognized_name`")
async def test_a_name_in_tls_that_differs_from_the_tunnels_reaches_nothing(world: World) -> None:
    code = """
import os, socket, ssl
line = socket.create_connection(("127.0.0.1", 17853))
line.sendall(b"CONNECT HOST:PORT HTTP/1.1\\r\\nHost: HOST:PORT\\r\\n\\r\\n")
print(line.recv(1000).decode().splitlines()[0])
context = ssl._create_unverified_context()
try:
    context.wrap_socket(line, server_hostname="evil.example.net")
except ssl.SSLError as error:
    return error.reason
"""
    code = code.replace("HOST", HOST).replace("PORT", str(world.secure.port))
    host = JournalHost()
    outcome = await world.run(code, host=host)
    assert (outcome.result, outcome.error) == ("TLSV1_UNRECOGNIZED_NAME", None)
    assert [one.allowed for one in host.decisions] == [False]
    assert world.secure.heads == []


@pytest.mark.every_runner
@attack("leave a connection open at the end", "it ends with the step")
async def test_the_end_of_the_step_ends_its_connections(world: World) -> None:
    ended = asyncio.get_running_loop().create_future()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await reader.read()
        except (ConnectionError, ssl.SSLError):
            pass
        writer.close()
        ended.set_result(None)

    code = "import socket\nline = socket.create_connection(('127.0.0.1', 17853))\nline.sendall(HEAD)\nimport time\ntime.sleep(0.5)"
    async with listening(wait) as port:
        entry = f"{OTHER}:{port}"
        head = f"GET http://{entry}/ HTTP/1.1\r\nHost: {entry}\r\n\r\n".encode()
        job = world.job(code.replace("HEAD", repr(head)))
        assert job.network is not None
        network = replace(job.network, allow=Allowlist((entry,)), internal=frozenset({Endpoint.parse(entry)}))
        host = JournalHost()
        outcome = await world.execute(replace(job, network=network), host)
        assert (outcome.status, outcome.egress) == (StepStatus.SUCCEEDED, 1)
        assert len(host.ends) == 1
        await asyncio.wait_for(ended, 20)
