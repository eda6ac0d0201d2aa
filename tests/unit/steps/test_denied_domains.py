"""Which names a denied domain has, and what is none."""

import pytest

from steps.denied_domains import DeniedDomains, pattern_problem


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("example.com", "example.com"),
        ("example.com", "a.b.example.com"),
        ("*.example.com", "a.example.com"),
        ("*.example.com", "a.b.example.com"),
        ("ads-*.example.net", "ads-1.example.net"),
        ("ads-*.example.net", "eu.ads-1.example.net"),
        ("zip", "anything.zip"),
        ("*", "example.com"),
        ("xn--mnchen-3ya.de", "www.xn--mnchen-3ya.de"),
    ],
)
def test_pattern_denies_the_host(pattern: str, host: str) -> None:
    assert DeniedDomains(("first.example", pattern)).denied_by(host) == pattern


@pytest.mark.parametrize(
    ("pattern", "host"),
    [
        ("example.com", "notexample.com"),
        ("example.com", "example.com.evil.net"),
        ("example.com", "com"),
        ("*.example.com", "example.com"),
        ("ads-*.example.net", "ads.example.net"),
        ("*.com", "com"),
    ],
)
def test_pattern_denies_no_other_host(pattern: str, host: str) -> None:
    assert DeniedDomains((pattern,)).denied_by(host) is None


@pytest.mark.parametrize(
    ("entry", "denied"),
    [
        ("example.com:8443", True),
        ("*.example.com", True),
        ("*.a.example.com", True),
        ("*.com", False),
        ("other.com", False),
    ],
)
def test_entry_of_an_allowlist_that_would_allow_nothing(entry: str, *, denied: bool) -> None:
    assert (DeniedDomains(("example.com",)).denied_entry(entry) is not None) is denied


def test_wildcard_entry_below_a_pattern_is_denied_as_a_whole() -> None:
    assert DeniedDomains(("*.example.com",)).denied_entry("*.example.com") == "*.example.com"
    assert DeniedDomains(("ads-*.example.com",)).denied_entry("*.example.com") is None


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "not a domain"),
        ("https://example.com", "an address"),
        ("example.com:443", "has a port"),
        ("Example.com", "capitals"),
        ("münchen.de", "not in ASCII"),
        ("192.0.2.1", "an IP address"),
        ("0x7f", "an IP address"),
        ("a..b", "not a domain"),
        ("-.example.com", "not a domain"),
        ("[a-z].example.com", "not a domain"),
    ],
)
def test_what_is_no_pattern(pattern: str, says: str) -> None:
    problem = pattern_problem(pattern)
    assert problem is not None
    assert says in problem[0]


@pytest.mark.parametrize("pattern", ["example.com", "*.example.com", "ads-*.example.net", "*", "zip"])
def test_what_is_a_pattern(pattern: str) -> None:
    assert pattern_problem(pattern) is None
