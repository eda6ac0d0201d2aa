"""Bodies by their content type, and what isn't taken for one."""

import base64
import hashlib
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.http.body import Body, parse_body
from triggers.http.multipart import MAX_FILES
from triggers.http.request import MAX_FIELDS, RefusedRequestError

BOUNDARY = "----x"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def refused(content_type: str | None, content: bytes, match: str, status: int = 400) -> None:
    with pytest.raises(RefusedRequestError, match=match) as caught:
        parse_body(content_type, content)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("content_type", "content", "value", "encoding"),
    [
        ("application/json", b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}, "json"),
        ("application/json; charset=utf-8", b"1", 1, "json"),
        ("APPLICATION/JSON", b"[]", [], "json"),
        ("application/vnd.github+json", b"{}", {}, "json"),
        ("application/json", b"\xef\xbb\xbf{}", {}, "json"),
        ("application/x-www-form-urlencoded", b"a=1&b=x+y&a=%C3%A9&c=", {"a": ["1", "é"], "b": "x y", "c": ""}, "form"),
        ("text/plain", "grüß dich".encode(), "grüß dich", "text"),
        ("text/plain; charset=ISO-8859-1", "grüß".encode("latin-1"), "grüß", "text"),
        ("text/csv", b"a,b\n", "a,b\n", "text"),
        ("application/xml", b"<a/>", "<a/>", "text"),
        ("application/soap+xml", b"<a/>", "<a/>", "text"),
        ("application/x-ndjson", b"{}\n{}\n", "{}\n{}\n", "text"),
        ("application/octet-stream", b"\x00\xff", "AP8=", "base64"),
        ("image/png", b"\x89PNG", base64.b64encode(b"\x89PNG").decode(), "base64"),
        (None, b"{}", "e30=", "base64"),
        ("nonsense", b"{}", "e30=", "base64"),
        ("application/json", b"", None, "none"),
        (None, b"", None, "none"),
    ],
)
def test_a_body_by_its_content_type(content_type: str | None, content: bytes, value: Any, encoding: str) -> None:
    assert parse_body(content_type, content) == Body(value=value, encoding=encoding)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"{", "not JSON"),
        (b"{} {}", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b" ", "not JSON"),
        (b"NaN", "not a number"),
        (b"[Infinity]", "not a number"),
        (b"[-Infinity]", "not a number"),
        (b"1e999", "not a number"),
        (b"-1e999", "not a number"),
        (b"9223372036854775808", "not a number"),
        (b"1" * 5000, "not a number"),
        (b'{"a": 1, "a": 2}', "`a` is there twice"),
        (b'{"b": {"a": 1, "\\u0061": 2}}', "`a` is there twice"),
        (b'"\\ud800"', "not valid Unicode"),
        (b'"\xff"', "not UTF-8"),
        (b"[" * 200 + b"]" * 200, "nested deeper"),
        (b"[" * 200_000, "nested deeper|not JSON"),
        ('"é"'.encode("utf-16"), "not UTF-8|not JSON"),
    ],
)
def test_json_is_strict(content: bytes, match: str) -> None:
    refused("application/json", content, match)


def test_text_in_an_encoding_that_isnt_taken() -> None:
    refused("text/plain; charset=utf-7", b"x", "isn't taken", 415)
    refused("text/plain; charset=zlib", b"x", "isn't taken", 415)
    refused("text/plain; charset=../../x", b"x", "isn't taken", 415)
    refused("text/plain", b"\xff", "not text in utf-8")


def test_forms_have_limits() -> None:
    kind = "application/x-www-form-urlencoded"
    refused(kind, b"&".join([b"a=1"] * (MAX_FIELDS + 1)), "more than 1,000 fields")
    refused(kind, b"a=%FF", "aren't UTF-8")
    refused(kind, b"a=\xff", "not text in utf-8")
    assert parse_body(kind, b"&".join([b"a=1"] * MAX_FIELDS)).value == {"a": ["1"] * MAX_FIELDS}


def part(*headers: str, content: bytes = b"") -> bytes:
    return (
        f"--{BOUNDARY}\r\n".encode() + "".join(f"{one}\r\n" for one in headers).encode() + b"\r\n" + content + b"\r\n"
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


NAMED = 'Content-Disposition: form-data; name="a"'


@pytest.mark.parametrize("size", [0, 1, 255_999, 256_001, 3_000_000])
def test_a_form_as_a_client_sends_it(size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    request = httpx.Request(
        "POST",
        "http://localhost/",
        data={"title": "Grüße", "tag": ["a", "b"]},
        files=[("report", ("q1.csv", content, "text/csv")), ("report", ("q2.bin", b"x"))],
    )
    body = parse_body(request.headers["content-type"], request.read())
    assert (body.encoding, body.value) == ("form", {"title": "Grüße", "tag": ["a", "b"]})
    first, second = body.attachments
    assert (first.field, first.filename, first.content_type, first.size) == ("report", "q1.csv", "text/csv", size)
    assert first.content.read() == content
    assert first.sha256 == hashlib.sha256(content).hexdigest()
    assert (second.filename, second.content.read()) == ("q2.bin", b"x")
    for attachment in body.attachments:
        attachment.content.close()


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\\\Users\\\\x.txt", "x.txt"),
        ("..", "file"),
        ("", "file"),
        ("a\x1b[31m.txt", "a[31m.txt"),
        ("\u202egpj.exe", "gpj.exe"),
        ("x" * 1000, "x" * 255),
        ("grün.csv", "grün.csv"),
    ],
)
def test_the_name_of_a_file_is_harmless(filename: str, expected: str) -> None:
    body = parse_body(FORM, form(part(f'{NAMED}; filename="{filename}"', content=b"1")))
    (attachment,) = body.attachments
    attachment.content.close()
    assert attachment.filename == expected


@pytest.mark.parametrize(
    ("content_type", "content", "match", "status"),
    [
        ("multipart/form-data", b"x", "no boundary", 400),
        (FORM, b"x", "can't be read|cut off", 400),
        (FORM, form(part(NAMED, content=b"1"))[:-10], "cut off", 400),
        (FORM, part(NAMED + '; filename="x"', content=b"1"), "cut off", 400),
        (FORM, form(part("Content-Type: text/plain")), "has no name", 400),
        (FORM, form(part("Content-Disposition: attachment; filename=x")), "has no name", 400),
        (FORM, form(part(NAMED, content=b"\xff")), "not UTF-8", 400),
        (FORM, form(part(NAMED, content=b"x" * 1_000_001)), "larger than", 413),
        (FORM, form(*[part(NAMED)] * (MAX_FIELDS + 1)), "more than 1,000 fields", 400),
        (FORM, form(*[part(NAMED + '; filename="x"')] * (MAX_FILES + 1)), "more than 100 files", 400),
        (FORM, form(part(NAMED, "X: " + "y" * 100_000)), "can't be read", 400),
        (FORM, form(part(NAMED, *[f"X-{n}: y" for n in range(1000)])), "can't be read", 400),
        (f"multipart/form-data; boundary={'b' * 1000}", b"x", "can't be read", 400),
    ],
)
def test_a_form_that_is_none(content_type: str, content: bytes, match: str, status: int) -> None:
    refused(content_type, content, match, status)


@given(st.dictionaries(st.text(), st.text() | st.lists(st.text(), min_size=2, max_size=3), max_size=5))
def test_any_fields_come_back(fields: dict[str, Any]) -> None:
    encoded = urlencode(fields, doseq=True, quote_via=quote_plus, errors="surrogatepass").encode()
    clean = not any("\ud800" <= letter <= "\udfff" for letter in str(fields))
    try:
        assert parse_body("application/x-www-form-urlencoded", encoded).value == (fields or None)
    except RefusedRequestError:
        assert not clean


TYPES = st.sampled_from(
    [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
        "text/plain; charset=utf-16",
        FORM,
        "multipart/form-data; boundary=",
        "",
    ]
) | st.text(max_size=30)
CONTENTS = st.binary(max_size=200) | st.lists(
    st.sampled_from(
        [
            b"--" + BOUNDARY.encode(),
            b"\r\n",
            b"--",
            NAMED.encode(),
            b'; filename="x"',
            b"{",
            b'"a":',
            b"1",
            b"}",
            b"&",
            b"=",
            b"\xff",
        ]
    ),
    max_size=14,
).map(b"".join)


@given(TYPES, CONTENTS)
def test_any_body_is_a_value_or_refused(content_type: str, content: bytes) -> None:
    try:
        body = parse_body(content_type, content)
    except RefusedRequestError as refusal:
        status = refusal.status
    else:
        status = 400
        for attachment in body.attachments:
            attachment.content.close()
    assert status in {400, 413, 415}


def test_a_name_that_is_too_long_for_a_file_keeps_its_ending() -> None:
    name = "ä" * 200 + ".tar.gz"
    content = f'--b\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\nx\r\n--b--\r\n'.encode()
    (attachment,) = parse_body("multipart/form-data; boundary=b", content).attachments
    attachment.content.close()
    assert attachment.filename == name
    assert attachment.path.startswith("0/ää")
    assert attachment.path.endswith("ä.tar.gz")
    assert len(attachment.path.encode()) <= 257
