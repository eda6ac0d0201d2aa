"""The guest image as the runner sees it: which one it needs, and what must be known of it before it may be used.

Its tag is the hash of everything in it that is Stepbox's: the guest, the lock of Python steps' packages, the version of
deno, and the Dockerfile. So another version of Stepbox looks for another image, and never runs with an old guest.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flows.errors import RefusedError
from steps.sandbox import interpreter

GUEST = Path(__file__).parent.parent / "guest"
DOCKERFILE = Path(__file__).with_name("image") / "Dockerfile"
NAME = "stepbox-guest"
IDENTITY_LABEL, PYTHON_LABEL, BASE_LABEL = "stepbox.guest", "stepbox.python", "stepbox.base"


class GuestImageError(RefusedError):
    """The Engine doesn't have the guest image, or one that can't be used."""

    code = "guest_image_unavailable"


@dataclass(frozen=True, kw_only=True)
class GuestImage:
    """A guest image that is fit for use.

    ``id`` names it whatever becomes of its tag; ``digest`` is how run records call it; ``python`` is the interpreter in
    it; ``variables`` are those that it sets, which no sandbox gets.
    """

    id: str
    digest: str
    python: str
    variables: frozenset[str]


@cache
def identity() -> str:
    """The hash of the guest image's content: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in (*guest_files(), DOCKERFILE, interpreter.LOCK):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    digest.update(deno_version().encode())
    return digest.hexdigest()[:16]


def tag() -> str:
    """The reference of the guest image that this version of Stepbox needs."""
    return f"{NAME}:{identity()}"


def guest_files() -> Iterator[Path]:
    """The files of the guest, without what Python compiled from them."""
    yield from sorted(path for path in GUEST.rglob("*") if path.is_file() and path.parent.name != "__pycache__")


def deno_version() -> str:
    return version("deno")


def usable(reference: str, found: Mapping[str, Any] | None) -> GuestImage:
    """The guest image, from what the Engine says of it.

    Raises:
        GuestImageError: it isn't there, or is another than this version needs.
    """
    if found is None:
        raise GuestImageError(
            f"the Docker Engine doesn't have the image of Stepbox's sandboxes, {reference}",
            fix="run `stepbox images build`",
        )
    config = found["Config"]
    labels = config.get("Labels") or {}
    if labels.get(IDENTITY_LABEL) != identity() or not labels.get(PYTHON_LABEL):
        raise GuestImageError(
            f"{reference} is not the image that this version of Stepbox needs", fix="run `stepbox images build`"
        )
    if config.get("Volumes"):
        raise GuestImageError(
            f"{reference} has volumes ({', '.join(config['Volumes'])}), which have no limit",
            fix="build it on a base without VOLUME: `stepbox images build --base IMAGE`",
        )
    return GuestImage(
        id=found["Id"],
        digest=digest_of(reference, found),
        python=labels[PYTHON_LABEL],
        variables=frozenset(variable.partition("=")[0] for variable in config.get("Env") or ()),
    )


def digest_of(reference: str, found: Mapping[str, Any]) -> str:
    """How a record names an image for good: ``name@sha256:…``, of the registry where it came from one."""
    name = reference.partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    wanted = reference.partition("@")[2]
    known = [str(digest).partition("@") for digest in found.get("RepoDigests") or ()]
    pulled = [(digest == wanted, of == name, f"{of}@{digest}") for of, _, digest in known if _ends_with(of, name)]
    # The one that was asked for; else that of the very name.
    return max(pulled, key=lambda each: each[:2])[2] if pulled else f"{name}@{found['Id']}"


def _ends_with(repository: str, name: str) -> bool:
    return repository == name or repository.endswith(f"/{name}")
