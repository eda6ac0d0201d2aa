import asyncio
import ipaddress
import sys

import pytest

from steps.addresses import (
    Address,
    AddressError,
    Endpoint,
    UnresolvedError,
    is_public,
    normal_host,
    permitted_addresses,
    resolve,
)

NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:808:808::1",
    "2a00:1450::5efe:10.0.0.1",
    "2a00:1450::200:5efe:10.0.0.1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2a00:1450::1%eth0",
    "fec0::1",
    "ff02::1",
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "192.0.1.1",
    "2606:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_an_address_that_is_not_on_the_internet_is_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_on_the_internet_is_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "host",
    [
        "",
        ".",
        "a..b",
        "-a.com",
        "a b.com",
        "a.com/x",
        "a@b.com",
        "a.com:80",
        "a%2ecom",
        "a\0.com",
        "127.1",
        "127.0.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "127.0.0.0x1",
        "127.0.0.01",
        "256.1.1.1",
        "1.2.3.4.5",
        "example.0x1",
        "fe80::1%eth0",
        "[::1",
        "::1::",
        "x" * 64 + ".com",
        ".".join(["x" * 60] * 5),
        "☃.com",
    ],
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(AddressError):
        normal_host(host)


@pytest.mark.parametrize(
    ("host", "normal"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("localhost", "localhost"),
        ("a-1.b", "a-1.b"),
    ],
)
def test_a_host_has_one_normal_form(host: str, normal: str) -> None:
    assert normal_host(host) == normal


@pytest.mark.parametrize(
    "text", ["", "a", "a:", ":1", "a:0", "a:65536", "a:x", "a:-1", "a:²", "::1:80", "[::1]", "127.1:80", "a b:80"]
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Endpoint.parse(text)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("DB.internal:5432", "db.internal", 5432), ("[::1]:80", "::1", 80), (" 10.0.0.1:1 ", "10.0.0.1", 1)],
)
def test_an_endpoint_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    endpoint = Endpoint.parse(text)
    assert (endpoint.host, endpoint.port) == (host, port)
    assert Endpoint.parse(str(endpoint)) == endpoint


async def fixed(_host: str, _port: int) -> tuple[Address, ...]:
    return (ipaddress.ip_address("8.8.8.8"), ipaddress.ip_address("10.0.0.1"))


async def nothing(_host: str, _port: int) -> tuple[Address, ...]:
    return ()


async def test_one_address_that_is_not_public_refuses_the_host() -> None:
    with pytest.raises(AddressError, match=r"example\.com:443") as caught:
        await permitted_addresses("example.com", 443, resolver=fixed)
    assert "10.0.0.1" not in str(caught.value)
    assert "STEPBOX_INTERNAL=example.com:443" in str(caught.value)


async def test_only_the_exact_host_and_port_that_is_listed_is_open() -> None:
    internal = {Endpoint("example.com", 443)}
    assert len(await permitted_addresses("example.com", 443, internal=internal, resolver=fixed)) == 2
    for host, port in (("example.com", 444), ("www.example.com", 443), ("10.0.0.1", 443)):
        with pytest.raises(AddressError):
            await permitted_addresses(host, port, internal=internal, resolver=fixed)


async def test_an_address_is_not_resolved() -> None:
    assert await permitted_addresses("8.8.8.8", 53, resolver=nothing) == (ipaddress.ip_address("8.8.8.8"),)


async def test_a_host_without_an_address_is_named() -> None:
    with pytest.raises(UnresolvedError, match=r"example\.com"):
        await permitted_addresses("example.com", 53, resolver=nothing)


async def test_the_system_resolves_its_own_name_and_no_other() -> None:
    assert ipaddress.ip_address("127.0.0.1") in await resolve("localhost", 80)
    with pytest.raises(UnresolvedError):
        await resolve("no-such-host.invalid", 80)


HANGING = """
import asyncio, socket, threading, time
from steps.addresses import resolve

socket.getaddrinfo = lambda *_arguments, **_named: time.sleep(600)

async def main():
    hanging = [asyncio.ensure_future(resolve(f"h{number}.example", 80)) for number in range(100)]
    await asyncio.wait(hanging, timeout=0.3)
    print(await asyncio.to_thread(lambda: "works"), threading.active_count() < 25)

asyncio.run(main())
"""


async def test_a_name_server_that_hangs_holds_up_neither_other_work_nor_the_end() -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGING, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        told, _ = await process.communicate()
    assert (told, process.returncode) == (b"works True\n", 0)
