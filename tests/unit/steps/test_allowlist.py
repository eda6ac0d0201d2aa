"""Hosts that code may be allowed to reach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steps.allowlist import Allowlist, host_problem


@pytest.mark.parametrize(
    "host",
    [
        "api.example.com",
        "*.example.org",
        "a-b.example:8443",
        "localhost",
        "xn--e1afmkfd.example",
        "1e100.net",
        "a.b.c.d.e:1",
    ],
)
def test_a_host_can_be_allowed(host: str) -> None:
    assert host_problem(host) is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "*",
        "*.",
        "*.com",
        "*.*.example.org",
        "a.*.org",
        "exa mple.org",
        "https://example.org",
        "example.org/x",
        "user@example.org",
        "Example.org",
        "example.org.",
        ".example.org",
        "-a.example",
        "a-.example",
        "a_b.example",
        "10.0.0.1",
        "0x7f.1",
        "127.1:80",
        "a.0x7f",
        "[::1]",
        "::1",
        "example.org:",
        "example.org:0",
        "example.org:65536",
        "example.org:80:80",
        "ex\u0430mple.org",
        "a" * 64 + ".example",
        ".".join(["a" * 60] * 5),
        "a\n.example",
    ],
)
def test_what_is_no_host_is_refused_with_the_fix(host: str) -> None:
    problem = host_problem(host)
    assert problem is not None
    message, fix = problem
    assert message
    assert fix


@given(st.text(max_size=60))
def test_what_is_allowed_is_plain(host: str) -> None:
    if host_problem(host) is None:
        assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.:*")
        assert not host.split(":", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1].isdigit()


ALLOWED = Allowlist(
    ("api.example.com", "*.example.org", "files.example.net:8443", "files.example.net:80", "xn--e1a.example")
)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("api.example.com", 443),
        ("a.example.org", 443),
        ("a.b.c.example.org", 443),
        ("files.example.net", 8443),
        ("files.example.net", 80),
        ("xn--e1a.example", 443),
    ],
)
def test_what_an_entry_names_is_allowed(host: str, port: int) -> None:
    assert ALLOWED.allows(host, port)


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("api.example.com", 80),
        ("api.example.com", 8443),
        ("example.com", 443),
        ("www.api.example.com", 443),
        ("xapi.example.com", 443),
        ("api.example.com.evil.net", 443),
        ("api.example.comx", 443),
        ("example.org", 443),
        ("evilexample.org", 443),
        (".example.org", 443),
        ("example.org.evil.net", 443),
        ("a.example.org", 80),
        ("files.example.net", 443),
        ("*.example.org", 80),
        ("10.0.0.1", 443),
        ("", 443),
    ],
)
def test_nothing_else_is_allowed(host: str, port: int) -> None:
    assert not ALLOWED.allows(host, port)


def test_an_empty_list_allows_nothing() -> None:
    assert not Allowlist(()).allows("api.example.com", 443)
    assert str(Allowlist(())) == "empty"
