"""Pulling images, by the ordinary Docker credentials: what ``docker login`` and its helpers keep."""

from collections.abc import Callable
from typing import Any

import docker
from docker.errors import APIError

from flows.errors import RefusedError
from steps.sandbox.docker.engine import Engine

PULL_TIMEOUT = 1800


class ImagePullError(RefusedError):
    """An image can't be pulled."""

    code = "image_pull_failed"


async def pull(engine: Engine, reference: str, progress: Callable[[str], None]) -> None:
    """Pull an image; ``progress`` gets a line for each thing that takes long.

    Raises:
        ImagePullError: it can't be had; the message says why.
        RefusedError: the Engine doesn't answer.
    """
    progress(f"pulling {reference}")
    name, tag = _parts(reference)

    def run(client: docker.APIClient) -> str | None:
        try:
            found: Any = client.pull(name, tag=tag, stream=True, decode=True)
            return next((str(item["error"]) for item in found if "error" in item), None)
        except APIError as error:
            return str(error.explanation or error)

    failed = await engine.call(f"pull {reference}", run)
    if failed is not None:
        raise _refusal(reference, failed)


def _parts(reference: str) -> tuple[str, str | None]:
    """Name, and tag or digest; without one the Engine would pull every tag there is."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")


def _refusal(reference: str, told: str) -> ImagePullError:
    fix = "check the network and the proxy of the Docker Engine"
    if any(word in told for word in ("denied", "unauthorized", "authentication", "no basic auth")):
        fix = "check the name; for a private registry, run `docker login` as the user who runs Stepbox"
    elif any(word in told for word in ("not found", "manifest unknown", "does not exist")):
        fix = "check the name and the tag"
    return ImagePullError(f"the image {reference} can't be pulled: {told}", fix=fix)
