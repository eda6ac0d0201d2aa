"""What ``http.request`` does: one request to a server that policy lets it reach.

Each hop resolves its host once, judges every address and connects to an address that was judged, under the host's own
name: TLS verifies against the name, and ``Host`` carries it. Nothing comes from the environment (proxies, netrc) and
nothing is kept between calls (cookies, connections).
"""

import asyncio
import base64
import json
import ssl
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import httpx

from flows.values import Json
from steps.addresses import MAX_PORT, Endpoint, normal_host
from steps.tools.contract import EgressDeniedError, InvalidArgumentsError, TooLargeError, ToolContext, ToolError

MAX_RESPONSE: Final = 1_000_000
"""Bytes of a body, decompressed."""

MAX_REDIRECTS: Final = 5
_DEFAULT_TIMEOUT: Final = 30.0
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CLIENT_ERROR: Final = 400

_OURS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "expect", "keep-alive"}
)
"""Headers that frame the request; a caller's own could make a proxy see another one."""

_HARMLESS: Final = frozenset({"accept", "accept-language", "content-type", "user-agent"})
"""What a redirect to another origin still carries: any other header may be a credential."""


class HttpStatusError(ToolError):
    """The server's answer says that it failed, and the caller asked for that to count."""

    code = "http_status"


class ConnectionFailedError(ToolError):
    """The server couldn't be reached, or broke off."""

    code = "connection_failed"
    uncertain = True


class TimedOutError(ToolError):
    """The server took too long."""

    code = "http_timeout"
    uncertain = True


async def request(arguments: Mapping[str, Json], context: ToolContext) -> Json:
    timeout = float(arguments.get("timeout", _DEFAULT_TIMEOUT))
    try:
        async with asyncio.timeout(timeout):
            response = await _follow(arguments, context)
    except TimeoutError:
        raise TimedOutError(
            f"{arguments['url']} didn't answer within {timeout:g} s", fix="give a longer timeout, up to 300"
        ) from None
    status = response["status"]
    if (arguments.get("fail_on_error") and status >= _CLIENT_ERROR) or status in arguments.get("fail_on_status", ()):
        body = response.get("body", response.get("json"))
        raise HttpStatusError(f"{response['url']} answered {status}: {str(body)[:500]}")
    return response


async def _follow(arguments: Mapping[str, Json], context: ToolContext) -> dict[str, Json]:
    method: str = arguments.get("method", "GET")
    headers = _headers(arguments, method, context)
    content = _content(arguments, headers)
    url = _parse(arguments["url"])
    if "query" in arguments:
        url = url.copy_merge_params(arguments["query"])
    for _ in range(MAX_REDIRECTS + 1):
        status, answered, body = await _send(method, url, headers, content, context)
        location = answered.get("location")
        if status not in _REDIRECTS or location is None or not arguments.get("follow_redirects", True):
            return {"status": status, "url": str(url), "headers": dict(answered), **_decoded(answered, body)}
        target = _parse(str(url.join(location)))
        if url.scheme == "https" and target.scheme == "http":
            raise EgressDeniedError(f"{url} redirects to {target}, without encryption", fix="ask for that URL itself")
        if status == 303 or (status in {301, 302} and method == "POST"):  # noqa: PLR2004
            method, content = ("HEAD" if method == "HEAD" else "GET"), b""
            headers.pop("content-type", None)
        if _origin(target) != _origin(url):
            headers = httpx.Headers({name: value for name, value in headers.items() if name in _HARMLESS})
        url = target
    raise ToolError(f"{arguments['url']} redirects more than {MAX_REDIRECTS} times", fix="ask for the final URL")


def _headers(arguments: Mapping[str, Json], method: str, context: ToolContext) -> httpx.Headers:
    headers = httpx.Headers({"accept": "*/*", "user-agent": "stepbox"})
    if method in {"POST", "PATCH"}:
        headers["idempotency-key"] = context.idempotency_key
    for name, value in arguments.get("headers", {}).items():
        if name.lower() in _OURS:
            raise InvalidArgumentsError(f"headers: {name} is set by the tool", fix="leave it out")
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or not _is_header_value(value):
            raise InvalidArgumentsError(
                f"headers: {name!r} isn't a header", fix="use ASCII, without line ends or control characters"
            )
        headers[name] = value
    # The response is decompressed here, within its limit, or not at all.
    headers["accept-encoding"] = "gzip"
    return headers


def _is_header_value(value: str) -> bool:
    return value.isascii() and (value.isprintable() or value.replace("\t", " ").isprintable())


def _content(arguments: Mapping[str, Json], headers: httpx.Headers) -> bytes:
    if "json" in arguments:
        headers.setdefault("content-type", "application/json")
        return json.dumps(arguments["json"], allow_nan=False).encode()
    body: str = arguments.get("body", "")
    if body:
        headers.setdefault("content-type", "text/plain; charset=utf-8")
    try:
        return body.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentsError("body isn't text: it holds half a surrogate pair", fix="take it out") from None


def _parse(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidArgumentsError(f"{text!r} is no URL: {error}", fix="write it like https://example.com/") from None
    if url.scheme not in _DEFAULT_PORTS or not url.host or not 0 < (url.port or 1) <= MAX_PORT:
        raise InvalidArgumentsError(f"{text!r} is no http or https URL", fix="write it like https://example.com/")
    if url.userinfo:
        raise InvalidArgumentsError("the URL holds a user or password", fix="pass them in an Authorization header")
    return url.copy_with(fragment=None)


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or _DEFAULT_PORTS[url.scheme]


async def _send(
    method: str, url: httpx.URL, headers: httpx.Headers, content: bytes, context: ToolContext
) -> tuple[int, httpx.Headers, bytes]:
    host = normal_host(url.host)
    port = url.port or _DEFAULT_PORTS[url.scheme]
    addresses = await context.addresses(host, port)
    authority = f"[{host}]" if ":" in host else host
    if port != _DEFAULT_PORTS[url.scheme]:
        authority = str(Endpoint(host, port))
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=0)
    tls = _tls(context.services.ca_file)
    async with httpx.AsyncClient(verify=tls, trust_env=False, limits=limits, timeout=None) as client:  # noqa: S113
        for number, address in enumerate(addresses, 1):
            outgoing = client.build_request(
                method,
                url.copy_with(host=str(address)),
                headers=[("host", authority), *headers.multi_items()],
                content=content or None,
                extensions={"sni_hostname": host},
            )
            try:
                response = await client.send(outgoing, stream=True, auth=None, follow_redirects=False)
            except httpx.ConnectError as error:
                # Nothing was sent, so the next address may be tried.
                if number == len(addresses):
                    raise ConnectionFailedError(f"{host}:{port} can't be reached: {error}") from error
                continue
            except httpx.HTTPError as error:
                raise ConnectionFailedError(f"{host}:{port} broke off: {_reason(error)}") from error
            try:
                return response.status_code, response.headers, await _read(response, url)
            except httpx.HTTPError as error:
                raise ConnectionFailedError(f"{host}:{port} broke off: {_reason(error)}") from error
            finally:
                await response.aclose()
    raise AssertionError("permitted_addresses gives at least one")


def _reason(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__


@cache
def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


async def _read(response: httpx.Response, url: httpx.URL) -> bytes:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "x-gzip", ""}:
        raise ToolError(f"{url} answered compressed by {encoding}, though asked for gzip")
    inflate = None if encoding in {"identity", ""} else zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    body, received = bytearray(), False
    try:
        async for chunk in response.aiter_raw():
            received = True
            body += chunk if inflate is None else inflate.decompress(chunk, MAX_RESPONSE + 1 - len(body))
            if len(body) > MAX_RESPONSE or (inflate is not None and inflate.unconsumed_tail):
                raise TooLargeError(f"the body of {url} has more than {MAX_RESPONSE} bytes", fix="ask for a part of it")
        if received and inflate is not None and (not inflate.eof or inflate.unused_data):
            raise ToolError(f"{url} answered with gzip that isn't one whole part")
    except zlib.error as error:
        raise ToolError(f"{url} answered with broken gzip: {error}") from None
    return bytes(body)


def _decoded(headers: httpx.Headers, body: bytes) -> dict[str, Json]:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return {"json": json.loads(body, parse_constant=_no_constant)}
        except (ValueError, RecursionError):
            pass
    text = _decode(body, httpx.Response(200, headers=headers).charset_encoding or "utf-8")
    if text is None:
        return {"body": base64.b64encode(body).decode(), "encoding": "base64"}
    return {"body": text, "encoding": "text"}


def _decode(body: bytes, charset: str) -> str | None:
    try:
        return body.decode(charset)
    except UnicodeDecodeError:
        return None
    except LookupError:
        return _decode(body, "utf-8")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} isn't JSON")
