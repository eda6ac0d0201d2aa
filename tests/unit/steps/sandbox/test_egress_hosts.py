"""What code may ask for: hosts and ports as its step's allowlist has them, and nothing that looks like one of them."""

import pytest

from tests.proxies import job_with_network
from tests.servers import local

ALLOWED = ("api.example.com", "*.example.org", "xn--bcher-kva.example")
NAMES = ("api.example.com", "a.example.org", "xn--bcher-kva.example")

ELSEWHERE = [
    # prefixes, suffixes, and the domain of a wildcard itself
    b"evil.com",
    b"api.example.com.evil.com",
    b"evil-api.example.com",
    b"evilapi.example.com",
    b"www.api.example.com",
    b"example.com",
    b"api.example.co",
    b"example.org",
    b"evilexample.org",
    b"a.example.org.evil.com",
    b"xn--bcher-kva.example.evil.com",
    # localhost, however it is called
    b"localhost",
    b"LOCALHOST.",
    b"a.localhost",
    b"localhost.localdomain",
    b"ip6-localhost",
    # addresses, in every notation
    b"127.0.0.1",
    b"8.8.8.8",
    b"169.254.169.254",
    b"[::1]",
    b"[::ffff:127.0.0.1]",
    b"[::ffff:7f00:1]",
    b"[::127.0.0.1]",
    b"[64:ff9b::7f00:1]",
    b"[64:ff9b:1::a9fe:a9fe]",
    b"[2002:7f00:1::]",
    b"[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    b"[2a00:1450::5efe:10.0.0.1]",
    b"[fe80::1]",
    b"[fd00:ec2::254]",
    b"[2606:4700::1111]",
]

NO_HOSTS = [
    b"127.1",
    b"127.0.1",
    b"2130706433",
    b"0177.0.0.1",
    b"0x7f.0.0.1",
    b"0x7f000001",
    b"017700000001",
    b"127.0.0.1.",
    b"127.0.0.0x1",
    b"[::1%25lo]",
    b"[::1",
    b"::1",
    b"[api.example.com]",
    b"user@api.example.com",
    b"user:pass@api.example.com",
    b"api.example.com@evil.com",
    b"api.example.com\\@evil.com",
    b"evil.com\\.api.example.com",
    b"evil.com/.example.org",
    b"evil.com#.example.org",
    b"evil.com?.example.org",
    b"evil.com%00.example.org",
    b"evil.com%2e.example.org",
    b"api%2eexample.com",
    b"%61pi.example.com",
    b"evil.com%0d%0a.example.org",
    b"*.example.org",
    b"a..example.org",
    b".example.org",
    b"-a.example.org",
    b"a_b.example.org",
    b"xn--.example.org",
    b"xn--a-.example.org",
    b"a" * 64 + b".example.org",
    b".".join([b"a" * 60] * 5) + b".example.org",
    b"",
]

NOT_HTTP = [
    b"CONNECT api.example.com\0.evil.com:443 HTTP/1.1\r\n\r\n",
    b"CONNECT evil.com\0.example.org:443 HTTP/1.1\r\n\r\n",
    b"CONNECT evil.com\r.example.org:443 HTTP/1.1\r\n\r\n",
    b"CONNECT evil.com .example.org:443 HTTP/1.1\r\n\r\n",
    b"CONNECT evil.com\t.example.org:443 HTTP/1.1\r\n\r\n",
    "CONNECT bücher.example:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "CONNECT аpi.example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "CONNECT evil.com。example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x05\x01\x00\r\n\r\n",
    b"CONNECT api.example.com:443\r\n\r\n",
]


def connect(host: bytes, port: bytes = b"443") -> bytes:
    return b"CONNECT %s:%s HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n" % (host, port)


@pytest.mark.parametrize("host", ELSEWHERE)
async def test_a_tunnel_to_another_host_is_refused_and_nothing_is_asked_about_it(host: bytes) -> None:
    async with job_with_network(*ALLOWED, names=local(*NAMES), internal=("api.example.com:443",)) as job:
        answer = await job.ask(connect(host))
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert job.names.asked == []
    (decision,) = job.decisions
    assert (decision.allowed, decision.address, decision.port) == (False, None, 443)
    assert job.egress.requests == 1


@pytest.mark.parametrize("host", NO_HOSTS)
async def test_what_is_no_host_is_refused(host: bytes) -> None:
    async with job_with_network(*ALLOWED, names=local(*NAMES)) as job:
        answer = await job.ask(connect(host))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert job.names.asked == []
    (decision,) = job.decisions
    assert (decision.allowed, decision.port, job.egress.requests) == (False, 0, 1)


@pytest.mark.parametrize("head", NOT_HTTP)
async def test_what_is_no_request_is_refused(head: bytes) -> None:
    async with job_with_network(*ALLOWED, names=local(*NAMES)) as job:
        answer = await job.ask(head)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert (job.names.asked, job.refused != [], job.egress.requests) == ([], True, 1)


@pytest.mark.parametrize(
    "port", [b"80", b"22", b"25", b"8443", b"444", b"0443x", b"0", b"65536", b"-1", b"+443", b"", b"443:443"]
)
async def test_a_port_that_is_not_allowed_is_refused(port: bytes) -> None:
    async with job_with_network(*ALLOWED, names=local(*NAMES)) as job:
        answer = await job.ask(connect(b"api.example.com", port))
    assert answer.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))
    assert (job.names.asked, len(job.refused)) == ([], 1)


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (b"api.example.com", "api.example.com"),
        (b"API.Example.COM", "api.example.com"),
        (b"api.example.com.", "api.example.com"),
        (b"a.example.org", "a.example.org"),
        (b"A.EXAMPLE.ORG.", "a.example.org"),
        (b"XN--BCHER-KVA.example", "xn--bcher-kva.example"),
    ],
)
async def test_an_allowed_host_is_asked_for_in_its_one_form(host: bytes, name: str) -> None:
    async with job_with_network(*ALLOWED, names=local(*NAMES)) as job:
        answer = await job.ask(connect(host))
    assert b"refused: not on the public Internet" in answer
    assert job.names.asked == [name]
    assert [(one.host, one.port) for one in job.decisions] == [(name, 443)]


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (connect(b"evil.com"), 'evil.com:443 refused: not in network.allow of this step; add it to the step: network: {allow: ["evil.com"]}'),
        (connect(b"evil.com", b"8443"), 'add it to the step: network: {allow: ["evil.com:8443"]}'),
        (connect(b"api.example.com", b"8443"), "network.allow of this step has port 443 of it only"),
        (connect(b"10.0.0.1"), "10.0.0.1:443 refused: an address, where a step reaches names only"),
        (b"GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "use https://api.example.com, or allow api.example.com:80"),
        (b"GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n", 'network: {allow: ["evil.com:80"]}'),
        (b"GET https://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n", "neither CONNECT HOST:PORT nor one with an http:// URL"),
        (b"GET http://api.example.com:443/ HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n", "without encryption"),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_policy_and_the_fix_wherever_a_client_looks(head: bytes, told: str) -> None:
    async with job_with_network(*ALLOWED, names=local(*NAMES)) as job:
        answer = await job.ask(head)
    first, _, rest = answer.decode().partition("\r\n")
    fields, _, body = rest.partition("\r\n\r\n")
    assert told in first
    assert told in body
    assert "Stepbox-Refusal: " in fields
    assert [told in note for note in job.notes] == [True]
    assert (job.names.asked, job.refused[0] in body) == ([], True)


async def test_the_proxy_tells_what_the_network_is() -> None:
    async with job_with_network(*ALLOWED, names=local(*NAMES)) as job:
        await job.ask(connect(b"evil.com"))
        answer = await job.ask(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:17853\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"allow": ["api.example.com", "*.example.org"' in answer
    assert b'"requests": 1, "limit": 50' in answer
    assert b'"host": "evil.com"' in answer
    assert len(job.decisions) == 1


@pytest.mark.parametrize("host", [b"evil.com:17853", b"api.example.com", b"127.0.0.1", b"localhost"])
async def test_a_name_that_code_points_at_the_proxy_leads_nowhere(host: bytes) -> None:
    """As by an edited /etc/hosts."""
    async with job_with_network(*ALLOWED, names=local(*NAMES)) as job:
        answer = await job.ask(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"this is the proxy of the step's network" in answer
    assert job.names.asked == []
