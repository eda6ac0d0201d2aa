"""Who a request is from: the vectors of the specifications, and those who pretend."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triggers.http.request import RefusedRequestError, Request
from triggers.webhook.config import Webhook
from triggers.webhook.verification import MAX_SIGNATURES, InvalidSecretError, verify

NOW = datetime(2021, 2, 25, 15, 2, 10, tzinfo=UTC)
# The example of the Standard Webhooks specification and of its libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, SENT, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
# The example of GitHub's documentation.
GITHUB_SECRET, GITHUB_BODY = "It's a Secret to Everybody", b"Hello, World!"
GITHUB_SIGNATURE = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def webhook(verify: str = "standard", **more: Any) -> Webhook:
    secret = {} if verify == "none" else {"secret": "key"}
    return Webhook.model_validate({"path": "p", "verify": verify, **secret, **more})


def standard(
    headers: dict[str, str] | None = None,
    *,
    body: bytes = BODY,
    secrets: Sequence[str] = (SECRET,),
    now: datetime = NOW,
) -> str | None:
    given = {"webhook-id": ID, "webhook-timestamp": SENT, "webhook-signature": SIGNATURE, **(headers or {})}
    request = Request(method="POST", headers=[pair for pair in given.items() if pair[1]], body=body)
    return verify(webhook(), request, secrets, now)


def signed(secret: bytes, identity: str, sent: str, body: bytes) -> str:
    """By the text of the specification, with nothing of the library."""
    digest = hmac.new(secret, f"{identity}.{sent}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def test_the_vector_of_standard_webhooks() -> None:
    assert standard() == ID
    assert signed(base64.b64decode(SECRET.removeprefix("whsec_")), ID, SENT, BODY) == SIGNATURE


def test_the_older_names_of_the_headers() -> None:
    headers = [("svix-id", ID), ("svix-timestamp", SENT), ("svix-signature", SIGNATURE)]
    assert verify(webhook(), Request(method="POST", headers=headers, body=BODY), [SECRET], NOW) == ID
    # A new signature doesn't go with an old id.
    mixed = [*headers, ("webhook-signature", SIGNATURE)]
    with pytest.raises(RefusedRequestError, match="webhook-id is missing"):
        verify(webhook(), Request(method="POST", headers=mixed, body=BODY), [SECRET], NOW)


@pytest.mark.parametrize(
    "other", ["whsec_" + base64.b64encode(b"new" * 8).decode(), base64.b64encode(b"x" * 24).decode()]
)
@pytest.mark.parametrize("order", [1, -1])
def test_either_of_two_live_secrets_will_do(other: str, order: int) -> None:
    assert standard(secrets=[other, SECRET][::order]) == ID
    key = base64.b64decode(other.removeprefix("whsec_"))
    assert standard({"webhook-signature": signed(key, ID, SENT, BODY)}, secrets=[other, SECRET][::order]) == ID


def test_one_right_signature_of_several_is_enough() -> None:
    wrong = "v1," + base64.b64encode(b"x" * 32).decode()
    assert standard({"webhook-signature": f"{wrong} v1a,abc {SIGNATURE} v2,zzz"}) == ID


def refused(status: int, match: str, headers: dict[str, str] | None = None, **more: Any) -> None:
    with pytest.raises(RefusedRequestError, match=match) as caught:
        standard(headers, **more)
    assert caught.value.status == status


def test_another_body_is_refused() -> None:
    refused(401, "not the right one", body=b'{"test": 2432232315}')
    refused(401, "not the right one", body=BODY + b" ")
    refused(401, "not the right one", body=b"")


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_what_is_signed_can_not_be_changed(name: str) -> None:
    refused(401, "not the right one", {name: "1614265331"})


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_is_refused(name: str) -> None:
    refused(401, "is missing", {name: ""})


@pytest.mark.parametrize("seconds", [-301, 301, 3600, -86400])
def test_a_time_too_far_away_is_refused(seconds: int) -> None:
    refused(401, "in the future" if seconds < 0 else "old", now=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_time_within_the_tolerance_is_taken(seconds: int) -> None:
    assert standard(now=NOW + timedelta(seconds=seconds)) == ID


@pytest.mark.parametrize(
    "sent",
    ["now", "1e9", "nan", "inf", "-1614265330", "1614265330.5", "9" * 12, "9" * 400, "١٦١٤٢٦٥٣٣٠", "1614265330\n5"],
)
def test_a_timestamp_that_is_none_is_refused(sent: str) -> None:
    refused(401, "timestamp|the request is", {"webhook-timestamp": sent})


@pytest.mark.parametrize(
    "signature",
    [
        SIGNATURE.removeprefix("v1,"),
        "v1," + "A" * 43,
        SIGNATURE.replace("v1", "v1a"),
        SIGNATURE.replace("v1", "V1"),
        SIGNATURE.lower(),
        SIGNATURE[:-1],
        SIGNATURE + "=",
        "v1,,,,",
        ",",
        "v1,",
        "v1,\u00e9\u00e9",
        SIGNATURE.replace(",", ", "),
        "x" * 20_000,
    ],
)
def test_a_signature_that_is_not_quite_right_is_refused(signature: str) -> None:
    refused(401, "not the right one", {"webhook-signature": signature})


def test_very_many_signatures_are_refused_before_they_are_compared() -> None:
    refused(401, "signatures", {"webhook-signature": " ".join([SIGNATURE] * (MAX_SIGNATURES + 1))})


def test_a_header_given_twice_is_refused() -> None:
    headers = [
        ("webhook-id", ID),
        ("Webhook-Id", "other"),
        ("webhook-timestamp", SENT),
        ("webhook-signature", SIGNATURE),
    ]
    with pytest.raises(RefusedRequestError, match="2 times") as caught:
        verify(webhook(), Request(method="POST", headers=headers, body=BODY), [SECRET], NOW)
    assert caught.value.status == 400


def test_a_body_that_is_no_text_is_refused() -> None:
    refused(400, "isn't UTF-8", body=b"\xff\xfe")


@pytest.mark.parametrize("secrets", [[], [""]])
@pytest.mark.parametrize("way", ["standard", "github", "hmac", "token"])
def test_without_a_secret_nothing_is_taken(way: str, secrets: list[str]) -> None:
    request = Request(method="POST", headers=[("Authorization", "Bearer "), ("X-Signature", "")])
    with pytest.raises(InvalidSecretError, match="isn't set") as caught:
        verify(webhook(way), request, secrets, NOW)
    assert caught.value.fix == "set it: stepbox secrets set key"


@pytest.mark.parametrize("secret", ["hunter2!", "whsec_", "whsec_é", "not base64", "A", "=", "whsec_=", "AAAAA"])
def test_a_secret_of_another_kind_says_so(secret: str) -> None:
    with pytest.raises(InvalidSecretError, match="the secret key is not one of Standard Webhooks") as caught:
        standard(secrets=[secret])
    assert caught.value.fix is not None


def github(signature: str | None, *, body: bytes = GITHUB_BODY, more: Sequence[tuple[str, str]] = ()) -> str | None:
    headers = [("X-GitHub-Delivery", "72d3162e"), *more]
    headers += [("X-Hub-Signature-256", signature)] if signature is not None else []
    return verify(webhook("github"), Request(method="POST", headers=headers, body=body), [GITHUB_SECRET], NOW)


def test_the_vector_of_github() -> None:
    assert github(GITHUB_SIGNATURE) == "72d3162e"


SHA1 = "sha1=" + hmac.new(GITHUB_SECRET.encode(), GITHUB_BODY, "sha1").hexdigest()


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        SHA1,
        GITHUB_SIGNATURE.removeprefix("sha256="),
        GITHUB_SIGNATURE.replace("sha256", "sha512"),
        GITHUB_SIGNATURE.upper(),
        GITHUB_SIGNATURE[:-1],
        GITHUB_SIGNATURE + "0",
        "sha256=",
    ],
)
def test_github_signs_by_sha256_alone(signature: str | None) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        github(signature, more=[("X-Hub-Signature", SHA1)])
    assert caught.value.status == 401


def test_github_with_another_body_is_refused() -> None:
    with pytest.raises(RefusedRequestError):
        github(GITHUB_SIGNATURE, body=GITHUB_BODY + b"!")


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "sha=", "v0="])
def test_an_hmac_as_the_flow_describes_it(algorithm: str, encoding: str, prefix: str) -> None:
    digest = hmac.new(b"k\xc3\xa4y", b"\xff body", algorithm).digest()
    value = prefix + (digest.hex() if encoding == "hex" else base64.b64encode(digest).decode())
    ours = webhook("hmac", header="X-Sig", algorithm=algorithm, encoding=encoding, prefix=prefix, id="X-Id")

    def check(headers: Sequence[tuple[str, str]], body: bytes = b"\xff body") -> str | None:
        return verify(ours, Request(method="POST", headers=headers, body=body), ["käy"], NOW)

    assert check([("x-sig", value)]) is None
    assert check([("x-sig", value), ("X-ID", "7")]) == "7"
    for headers in ([("x-sig", value[1:])], [("x-sig", "x" + value)], [("x-signature", value)], []):
        with pytest.raises(RefusedRequestError):
            check(headers)
    with pytest.raises(RefusedRequestError):
        check([("x-sig", value)], b"other")


def test_no_request_chooses_a_weaker_algorithm() -> None:
    ours = webhook("hmac", algorithm="sha512", prefix="sha512=")
    weak = "sha1=" + hmac.new(b"key", b"body", "sha1").hexdigest()
    with pytest.raises(RefusedRequestError):
        verify(ours, Request(method="POST", headers=[("X-Signature", weak)], body=b"body"), ["key"], NOW)


def test_hexadecimal_digits_in_capitals_are_the_same() -> None:
    digest = hmac.new(b"key", b"body", "sha256").hexdigest().upper()
    ours = webhook("hmac", prefix="SHA256=")
    verify(ours, Request(method="POST", headers=[("X-Signature", "SHA256=" + digest)], body=b"body"), ["key"], NOW)
    with pytest.raises(RefusedRequestError):
        verify(ours, Request(method="POST", headers=[("X-Signature", "sha256=" + digest)], body=b"body"), ["key"], NOW)


def test_an_hmac_of_the_timestamp_as_slack_signs() -> None:
    # The example of Slack's documentation.
    secret, sent = "8f742231b10e8888abcd99yyyzzz85a5", "1531420618"
    body = (
        b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name="
        b"foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2F"
        b"hooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015."
        b"47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    value = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    ours = webhook(
        "hmac",
        header="X-Slack-Signature",
        prefix="v0=",
        timestamp="X-Slack-Request-Timestamp",
        signed="v0:{timestamp}:{body}",
    )
    headers = [("X-Slack-Signature", value), ("X-Slack-Request-Timestamp", sent)]
    then = datetime.fromtimestamp(int(sent), UTC)
    verify(ours, Request(method="POST", headers=headers, body=body), [secret], then)
    with pytest.raises(RefusedRequestError, match="old"):
        verify(ours, Request(method="POST", headers=headers, body=body), [secret], then + timedelta(minutes=6))
    moved = [headers[0], ("X-Slack-Request-Timestamp", "1531420619")]
    with pytest.raises(RefusedRequestError, match="not the right one"):
        verify(ours, Request(method="POST", headers=moved, body=body), [secret], then)


@pytest.mark.parametrize(
    ("more", "name", "value", "good"),
    [
        ({}, "Authorization", "Bearer s3cret", True),
        ({}, "authorization", "bearer  s3cret ", True),
        ({}, "Authorization", "s3cret", False),
        ({}, "Authorization", "Basic s3cret", False),
        ({}, "Authorization", "Bearer s3cre", False),
        ({}, "Authorization", "Bearer s3cret2", False),
        ({}, "Authorization", "Bearer S3CRET", False),
        ({}, "Authorization", "Bearer ", False),
        ({}, "X-Token", "s3cret", False),
        ({"header": "X-Token"}, "X-Token", "s3cret", True),
        ({"header": "X-Token"}, "X-Token", "Bearer s3cret", False),
        ({"header": "X-Token", "prefix": "Token "}, "X-Token", "Token s3cret", True),
        ({"prefix": "Token "}, "Authorization", "Token s3cret", True),
    ],
)
def test_a_token(more: dict[str, str], name: str, value: str, good: bool) -> None:  # noqa: FBT001
    request = Request(method="POST", headers=[(name, value)])
    if good:
        assert verify(webhook("token", **more), request, ["other", "s3cret"], NOW) is None
        return
    with pytest.raises(RefusedRequestError) as caught:
        verify(webhook("token", **more), request, ["other", "s3cret"], NOW)
    assert caught.value.status == 401
    assert "s3cret" not in str(caught.value)


def test_none_takes_everyone() -> None:
    assert verify(webhook("none"), Request(method="POST"), [], NOW) is None
    assert verify(webhook("none", id="X-Id"), Request(method="POST", headers=[("x-id", "5")]), [], NOW) == "5"


def test_everything_secret_is_compared_by_the_constant_time_function(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    secrets = [SECRET, "whsec_" + base64.b64encode(b"y" * 24).decode()]
    standard({"webhook-signature": f"{SIGNATURE} v1,AAAA"}, secrets=secrets)
    # Each with each, right ones included, and all of one length.
    assert len(compared) == 4
    assert {len(value) for pair in compared for value in pair} == {32}


HEADERS = st.dictionaries(
    st.sampled_from(
        ["webhook-id", "webhook-timestamp", "webhook-signature", "X-Hub-Signature-256", "Authorization", "X-Signature"]
    ),
    st.text(st.characters(max_codepoint=255), max_size=60) | st.sampled_from([SIGNATURE, SENT, ID]),
)


@given(st.sampled_from(["standard", "github", "hmac", "token"]), HEADERS, st.binary(max_size=50))
def test_whatever_comes_is_refused_and_never_an_error(way: str, headers: dict[str, str], body: bytes) -> None:
    request = Request(method="POST", headers=list(headers.items()), body=body)
    with pytest.raises(RefusedRequestError) as caught:
        verify(webhook(way), request, [SECRET], NOW)
    assert caught.value.status in {400, 401}


@given(
    st.binary(min_size=24, max_size=64),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1),
    st.text(),
)
def test_what_is_signed_by_the_specification_is_taken(key: bytes, identity: str, text: str) -> None:
    headers = {"webhook-id": identity, "webhook-signature": signed(key, identity, SENT, text.encode())}
    assert standard(headers, body=text.encode(), secrets=["whsec_" + base64.b64encode(key).decode()]) == identity
