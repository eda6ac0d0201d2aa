"""Pulling images, by the ordinary Docker credentials: what ``docker login`` and its helpers keep."""

import asyncio
import re
import shutil
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from docker import auth
from docker.errors import DockerException

from flows.errors import RefusedError
from steps.sandbox.docker import stream
from steps.sandbox.docker.engine import DockerDiskFullError, Engine

FIRST_NEWS = 5.0
"""Seconds after which a pull tells how far it is; then each time twice as long later, so that no log fills with it."""
MB = 1_000_000
_FIXES = (
    (
        ("unauthorized", "denied", "authentication required", "no basic auth", "may require 'docker login'"),
        "check the name; for a private registry, run `docker login` as the user who runs Stepbox",
    ),
    (("no matching manifest", "does not match the specified platform"), "use an image for the Engine's platform"),
    (("not found", "manifest unknown", "does not exist", "name unknown"), "check the name and the tag"),
    (("toomanyrequests", "rate limit"), "wait, or run `docker login` for a higher limit"),
    (
        ("server gave HTTP response to HTTPS client",),
        "give the registry TLS, or list it in the Engine's daemon.json under `insecure-registries`",
    ),
    (("x509:", "certificate"), "let the Docker Engine's machine trust the registry's certificate"),
)
_NO_NETWORK = "check the network and the proxy of the Docker Engine, and the name of the registry"


class ImagePullError(RefusedError):
    """An image can't be pulled."""

    code = "image_pull_failed"


async def pull(engine: Engine, reference: str) -> AsyncGenerator[str]:
    """Pull an image; yields a line now and then: at the start, at the end, and ever more seldom between.

    Raises:
        ImagePullError: it can't be had; the message says why.
        DockerDiskFullError: the Engine's disk is full.
        RefusedError: the Engine doesn't answer.
    """
    name, tag = _parts(reference)
    started, news = time.monotonic(), FIRST_NEWS
    target = f"/v{engine.version}/images/create?{urlencode({'fromImage': name, 'tag': tag})}"
    headers = [("X-Registry-Auth", await asyncio.to_thread(_credentials, reference, name))]
    layers = _Layers()
    yield f"pulling {reference}"
    try:
        async with aclosing(stream.told(engine.endpoint, "POST", target, *headers)) as told:
            async for item in told:
                if "error" in item:
                    raise _refusal(reference, str(item["error"]))
                layers.take(item)
                if time.monotonic() - started > news:
                    news *= 2
                    yield f"pulling {reference}: {layers}"
    except stream.StreamError as error:
        raise _refusal(reference, re.sub(r" \(status \d+\)$", "", str(error))) from None
    except OSError as error:
        raise engine.unavailable(f"pull {reference}", error) from error
    if await engine.image(reference) is None:
        raise _refusal(reference, "the Docker Engine broke off")
    yield f"pulled {reference} in {time.monotonic() - started:.1f} s"


class _Layers:
    """How far the layers of an image are; as text, for a person."""

    def __init__(self) -> None:
        self._sizes: dict[str, tuple[int, int]] = {}

    def take(self, item: Mapping[str, Any]) -> None:
        detail = item.get("progressDetail") or {}
        if item.get("status") == "Downloading" and detail.get("total"):
            self._sizes[str(item.get("id"))] = (int(detail.get("current") or 0), int(detail["total"]))
        elif item.get("id") in self._sizes:
            _, total = self._sizes[str(item["id"])]
            self._sizes[str(item["id"])] = (total, total)

    def __str__(self) -> str:
        done, total = (sum(sizes) for sizes in zip(*self._sizes.values(), strict=True)) if self._sizes else (0, 0)
        return f"{done / MB:.0f} of {total / MB:.0f} MB of the layers begun"


def _parts(reference: str) -> tuple[str, str]:
    """Name, and tag or digest; without one the Engine would pull every tag there is."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")


def _credentials(reference: str, name: str) -> str:
    """What the user has for the registry of an image, as the Engine takes it."""
    try:
        registry, _ = auth.resolve_repository_name(name)
        known = auth.load_config()
        helper = known.get_credential_store(registry)
        if helper and shutil.which(f"docker-credential-{helper}") is None:
            raise _no_credentials(reference, f"docker-credential-{helper} isn't installed")
        found = known.resolve_authconfig(registry)
    except DockerException as error:
        raise _no_credentials(reference, str(error)) from None
    return str(auth.encode_header(found or {}).decode())


def _no_credentials(reference: str, why: str) -> ImagePullError:
    return ImagePullError(
        f"the image {reference} can't be pulled: {why}",
        fix="see that the credential helpers in ~/.docker/config.json are installed and work",
    )


def _refusal(reference: str, told: str) -> RefusedError:
    message = f"the image {reference} can't be pulled: {told}"
    if "no space left on device" in told:
        return DockerDiskFullError(
            message, fix="make room on the Engine's machine, for example by `docker system prune`"
        )
    fix = next((fix for words, fix in _FIXES if any(word in told for word in words)), _NO_NETWORK)
    return ImagePullError(message, fix=fix)
