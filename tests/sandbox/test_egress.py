"""A network of named hosts, as clients use it"""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.values import StepStatus
from steps.addresses import Endpoint
from steps.allowlist import Allowlist
from steps.sandbox.limits import Language
from steps.sandbox.pool import Sandboxes, profile_of
from tests.sandbox.conftest import RunStep
from tests.servers import listening
from tests.worlds import EVIL, OTHER, JournalHost, World, networked


@pytest.fixture
async def world(sandboxes: Sandboxes, tmp_path: Path) -> AsyncIterator[World]:
    async with networked(sandboxes, tmp_path) as made:
        yield made


CLIENTS: list[tuple[Language, str]] = [
    ("python", "import requests\nreturn requests.get('SECURE/x').json()['hello']"),
    ("python", "import requests\nreturn requests.get('PLAIN/x').json()['hello']"),
    ("python", "import httpx\nreturn httpx.get('SECURE/x').json()['hello']"),
    ("python", "import httpx\nreturn httpx.get('PLAIN/x').json()['hello']"),
    (
        "python",
        "import httpx\nasync def main():\n async with httpx.AsyncClient() as c: return (await c.get('SECURE/x')).json()['hello']",
    ),
    ("python", "import json, urllib.request\nreturn json.load(urllib.request.urlopen('SECURE/x'))['hello']"),
    ("python", "import json, urllib.request\nreturn json.load(urllib.request.urlopen('PLAIN/x'))['hello']"),
    ("python", "import pandas\nreturn pandas.read_json('SECURE/x', typ='series')['hello']"),
    ("python", "import requests\nreturn requests.get('SECURE/over').json()['hello']"),
    ("shell", "curl -sS SECURE/x | jq -r .hello"),
    ("shell", "curl -sS PLAIN/x | jq -r .hello"),
    ("shell", "curl -sSL SECURE/over | jq -r .hello"),
    ("javascript", "return (await (await fetch('SECURE/x')).json()).hello"),
    ("javascript", "return (await (await fetch('PLAIN/x')).json()).hello"),
    ("javascript", "return (await (await fetch(new URL('SECURE/over'))).json()).hello"),
    ("javascript", "return (await (await fetch(new Request('SECURE/x'))).json()).hello"),
]


@pytest.mark.every_runner
@pytest.mark.parametrize(("language", "code"), CLIENTS)
async def test_client_reaches_an_allowed_host(world: World, language: Language, code: str) -> None:
    host = JournalHost()
    outcome = await world.run(code, language, host=host)
    assert (outcome.result, outcome.error) == ("world", None)
    assert outcome.egress == len(host.decisions) == (2 if "/over" in code else 1)
    assert [one.allowed for one in host.decisions] == [True] * outcome.egress
    assert [one.address for one in host.decisions] == ["127.0.0.1"] * outcome.egress
    assert all(sent > 50 and received > 50 for sent, received, _reason in host.ends.values())
    assert len(host.ends) == outcome.egress
    assert host.lines == [("stdout", "world")] * (language == "shell")


REFUSED: list[tuple[Language, str]] = [
    ("python", "import requests\nrequests.get('EVIL/')"),
    ("python", "import httpx\nhttpx.get('EVIL/')"),
    ("python", "import urllib.request\nurllib.request.urlopen('EVIL/')"),
    ("python", "import requests\nrequests.get('SECURE/away')"),
    ("shell", "curl -sS EVIL/"),
    ("shell", "curl -sSL SECURE/away"),
    ("javascript", "await fetch('EVIL/')"),
    ("javascript", "await fetch('SECURE/away')"),
    ("javascript", "await fetch('EVIL/'.replace('https', 'http'))"),
]


@pytest.mark.both_users
@pytest.mark.parametrize(("language", "code"), REFUSED)
async def test_client_is_told_the_policy_and_the_fix(world: World, language: Language, code: str) -> None:
    host = JournalHost()
    outcome = await world.run(code, language, host=host)
    assert outcome.status is StepStatus.FAILED
    assert outcome.error is not None
    port = 80 if "replace" in code else 443
    entry = EVIL if port == 443 else f"{EVIL}:80"
    told = (
        f'{EVIL}:{port} refused: not in network.allow of this step; add it to the step: network: {{allow: ["{entry}"]}}'
    )
    assert told in f"{outcome.error.message} {outcome.error.fix}"
    assert ("stderr", f"network: {told}") in host.lines
    assert f"network: {told}\n" in outcome.stderr
    assert [one.host for one in host.decisions if not one.allowed] == [EVIL]
    assert EVIL not in world.names.asked
    if language == "javascript":
        assert outcome.error.code == "network_blocked"


@pytest.mark.every_runner
@pytest.mark.both_users
async def test_git_clones_over_https(world: World, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    commands = (
        f"git init -q {repository} && cd {repository} && echo kept > file && git add file && "
        "git -c user.name=x -c user.email=x@example.com commit -q -m x && git update-server-info"
    )
    await asyncio.to_thread(subprocess.run, commands, shell=True, check=True)
    for path in (repository / ".git").rglob("*"):
        if path.is_file():
            world.secure.answer(f"/r.git/{path.relative_to(repository / '.git')}", path.read_bytes())
    refs = world.secure.answers["/r.git/info/refs"]
    world.secure.answers["/r.git/info/refs?service=git-upload-pack"] = refs
    outcome = await world.run("git clone -q SECURE/r.git here && cat here/file", "shell")
    assert (outcome.result, outcome.error) == ("kept", None)


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import requests\nreturn len(requests.get('SECURE/big').content)"),
        ("python", "import requests\nreturn sum(map(len, requests.get('PLAIN/big', stream=True).iter_content(999)))"),
        ("shell", "curl -sS SECURE/big | wc -c > $RESULT"),
        (
            "javascript",
            "let n = 0; for await (const part of (await fetch('SECURE/big')).body) n += part.length; return n",
        ),
    ],
)
async def test_large_answers_come_whole(world: World, language: Language, code: str) -> None:
    outcome = await world.run(code, language)
    assert (outcome.result, outcome.error) == (3_000_000, None)


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import requests\nreturn requests.post('SECURE/x', data=b'x' * 2_000_000).status_code"),
        ("python", "import requests\nreturn requests.post('PLAIN/x', data=iter([b'x' * 1_000_000] * 2)).status_code"),
        ("shell", "head -c 2000000 /dev/zero | tr '\\0' x | curl -sS -o out -w '%{http_code}' -T - SECURE/x > $RESULT"),
        ("javascript", "return (await fetch('SECURE/x', { method: 'POST', body: 'x'.repeat(2000000) })).status"),
        (
            "javascript",
            "const body = new Blob(['x'.repeat(2000000)]).stream(); return (await fetch('PLAIN/x', { method: 'POST', body })).status",
        ),
    ],
)
async def test_large_requests_arrive_whole(world: World, language: Language, code: str) -> None:
    outcome = await world.run(code, language)
    assert (outcome.result, outcome.error) == (200, None)
    assert (*world.secure.bodies, *world.plain.bodies) == (b"x" * 2_000_000,)


@pytest.mark.every_runner
@pytest.mark.both_users
async def test_many_requests_at_once_each_get_their_own_answer(world: World) -> None:
    for number in range(45):
        world.plain.answer(f"/{number}", str(number).encode())
    code = """
import urllib.request
from concurrent.futures import ThreadPoolExecutor
def get(number):
    return urllib.request.urlopen(f"PLAIN/{number}").read().decode()
with ThreadPoolExecutor(45) as pool:
    return list(pool.map(get, range(45)))
"""
    outcome = await world.run(code)
    assert (outcome.result, outcome.egress) == ([str(number) for number in range(45)], 45)


@pytest.mark.attack("make more requests over the network than the limit", "`limit_exceeded`, code `too_many_requests`")
async def test_the_fifty_first_request_ends_the_step(world: World) -> None:
    code = "import urllib.request\nfor n in range(60): urllib.request.urlopen('PLAIN/x').read()"
    host = JournalHost()
    outcome = await world.run(code, host=host)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.LIMIT_EXCEEDED, "too_many_requests")
    assert "limits.requests" in (outcome.error.fix or "")
    assert (world.plain.connections, len(host.decisions)) == (50, 51)


@pytest.mark.every_runner
@pytest.mark.attack("move more bytes over the network than the limit", "`limit_exceeded`, code `too_much_transfer`")
async def test_more_bytes_than_the_limit_end_the_step(world: World) -> None:
    host = JournalHost()
    outcome = await world.run("curl -sS PLAIN/big > /dev/null; sleep 60", "shell", host=host, transfer=1_000_000)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.LIMIT_EXCEEDED, "too_much_transfer")
    assert len(host.ends) == 1
    assert outcome.duration < 20


@pytest.mark.every_runner
@pytest.mark.attack("fill the channel by downloads, read and unread", "tools, output and result come as ever")
async def test_a_running_download_holds_up_neither_tools_nor_output(world: World) -> None:
    """A download that code doesn't read, and one that it reads as fast as it can."""
    endless = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n"

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(endless)
            while True:
                writer.write(bytes(100_000))
                await writer.drain()
        except ConnectionError:
            writer.close()

    code = """
import threading, urllib.request
unread = [urllib.request.urlopen("POUR/") for _ in range(8)]
def read(response):
    while response.read(100_000): pass
reading = urllib.request.urlopen("POUR/")
threading.Thread(target=read, args=(reading,), daemon=True).start()
answers = [tools.echo(n=n) for n in range(50)]
print("done")
return len(answers)
"""
    async with listening(pour) as port:
        job = world.job(code.replace("POUR", f"http://{OTHER}:{port}"), transfer=10**12)
        assert job.network is not None
        entry = f"{OTHER}:{port}"
        network = replace(job.network, allow=Allowlist((entry,)), internal=frozenset({Endpoint.parse(entry)}))
        host = JournalHost(tools={"demo.echo": lambda given: given})
        outcome = await world.execute(replace(job, network=network, tools=("demo.echo",)), host)
    assert (outcome.result, outcome.error, outcome.stdout) == (50, None, "done\n")
    assert len(host.ends) == 9


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code", "host"),
    [
        ("python", "import requests\nrequests.get('https://example.com/')", "HOST"),
        ("python", "import httpx\nhttpx.get('https://example.com/')", "HOST"),
        ("python", "import urllib.request\nurllib.request.urlopen('https://example.com/')", "HOST"),
        ("python", "import socket\nsocket.create_connection(('1.1.1.1', 443))", "HOST"),
        ("shell", "curl -sS https://example.com/", "HOST"),
        ("shell", "git clone -q https://example.com/x.git", "HOST"),
        ("javascript", "await fetch('https://example.com/')", "example.com"),
    ],
)
async def test_without_a_network_the_error_says_so(run_step: RunStep, language: Language, code: str, host: str) -> None:
    outcome = await run_step(code, language)
    assert outcome.status is StepStatus.FAILED
    assert outcome.error is not None
    told = f'network is none for this step; declare `network: {{allow: ["{host}"]}}`'
    assert told in f"{outcome.error.message} {outcome.error.fix}"


async def test_without_a_network_there_is_no_proxy(run_step: RunStep) -> None:
    outcome = await run_step("import os\nreturn [name for name in os.environ if 'proxy' in name.lower()]")
    assert outcome.result == []
    listening = await run_step("import socket\nsocket.create_connection(('127.0.0.1', 17853), 5)")
    assert listening.error is not None
    assert "ConnectionRefusedError" in listening.error.message


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("const c = new AbortController(); c.abort(); try { await fetch('SECURE/x', { signal: c.signal }) } catch (e) { return e.name }", "AbortError"),
        ("try { await fetch('EVIL/') } catch (e) { return [e instanceof TypeError, e.name, e.code] }", [True, "NetworkError", "network_blocked"]),
        ("try { await fetch('no url') } catch (e) { return e instanceof TypeError }", True),
        ("const r = await fetch('SECURE/away', { redirect: 'manual' }); return [r.status, r.headers.get('location')]", [302, f"https://{EVIL}/"]),
        ("const r = await fetch('SECURE/absent'); return [r.ok, r.status]", [False, 404]),
        ("const h = new Headers({ 'X-A': '1' }); return (await fetch('SECURE/x', { headers: h })) instanceof Response", True),
        ("return await Promise.all(['SECURE/x', 'PLAIN/x'].map(async (u) => (await (await fetch(u)).json()).hello))", ["world", "world"]),
        ("return [typeof Deno, typeof WebSocket, typeof EventSource, typeof process, typeof setTimeout]", ["undefined"] * 5),
        ("try { await import('SECURE/x') } catch (e) { return e.message.length > 0 }", True),
        ("try { await fetch('file:///etc/passwd') } catch (e) { return 'no' }", "no"),
    ],
)  # fmt: skip
async def test_fetch_is_what_users_of_fetch_expect(world: World, code: str, result: object) -> None:
    outcome = await world.run(code, "javascript")
    assert (outcome.result, outcome.error) == (result, None)


@pytest.mark.every_runner
async def test_a_ready_sandbox_serves_javascript_with_a_network(world: World) -> None:
    job = world.job("return (await (await fetch('SECURE/x')).json()).hello", "javascript")
    assert profile_of(job).network
    assert not profile_of(replace(job, network=None)).network
    world.sandboxes.expect(profile_of(job), 1)
    assert (await world.execute(job, JournalHost())).result == "world"
