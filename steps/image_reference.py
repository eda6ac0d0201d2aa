"""References of images as Docker reads them, and the patterns that say which of them may be used."""

import re
from dataclasses import dataclass
from typing import Final, Self

DOCKER_HUB: Final = "docker.io"
_HUB_NAMES: Final = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ID: Final = re.compile(r"[0-9a-f]{1,64}")
_PATTERN: Final = re.compile(
    r"(?P<name>[A-Za-z0-9*._:/-]*?[A-Za-z0-9*])(?::(?P<tag>[A-Za-z0-9_.*-]{1,128}))?(?:@(?P<digest>.+))?"
)


@dataclass(frozen=True, kw_only=True)
class ImageReference:
    """Which image a reference names: all that it leaves out is filled in.

    ``python`` is ``docker.io/library/python:latest``. Where there is a ``digest`` it alone says which image it is, and
    the Engine looks at no tag beside it; so ``tag`` is None then.
    """

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference that is written correctly (:mod:`steps.image` checks that)."""
        rest, _, digest = text.partition("@")
        name, tag = _split_tag(rest)
        registry, repository = _split_registry(name)
        if digest:
            return cls(registry=registry, repository=repository, tag=None, digest=digest)
        return cls(registry=registry, repository=repository, tag=tag or "latest", digest=None)


@dataclass(frozen=True, kw_only=True)
class ImagePattern:
    """Images that may be used; made by :meth:`parse`.

    What it leaves out of a name is filled in as in a reference; without tag and digest it has all of the repository's.
    """

    text: str
    name: re.Pattern[str]
    tag: re.Pattern[str] | None
    digest: str | None
    """One digest, ``*`` for any, so that the reference must have one; None: with or without."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pattern.

        Raises:
            ValueError: it isn't one; the message says what to write.
        """
        match = _PATTERN.fullmatch(text)
        if match is None or "***" in text:
            raise ValueError("write it as an image, such as `python:3.12*` or `registry.example.com/team/**`")
        tag, digest = match["tag"], match["digest"]
        name = match["name"]
        if "/" not in name and tag is not None and tag.isdecimal() and ("." in name or name == "localhost"):
            raise ValueError(f"`{text}` may be a registry with its port: write `{text}/**`")
        if digest is not None and tag is not None:
            raise ValueError("a digest says which image it is, whatever the tag: remove the tag")
        if digest is not None and digest != "*" and not _DIGEST.fullmatch(digest):
            raise ValueError("a digest is `sha256:` and 64 hexadecimal digits, or `*` for any")
        if name == "**":
            whole = ".*"
        else:
            registry, repository = _split_registry(name)
            whole = f"{_regex(registry)}/{_regex(repository)}"
        return cls(
            text=text,
            name=re.compile(whole),
            tag=None if tag is None else re.compile(_regex(tag)),
            digest=digest,
        )

    def matches(self, image: ImageReference) -> bool:
        """Whether it has the image."""
        if self.name.fullmatch(f"{image.registry}/{image.repository}") is None:
            return False
        if self.tag is not None and (image.tag is None or self.tag.fullmatch(image.tag) is None):
            return False
        return self.digest is None or (image.digest is not None and self.digest in ("*", image.digest))


def may_be_an_id(text: str) -> bool:
    """Whether a reference may be the beginning of an image's id as well, which an Engine takes in place of a name."""
    return _ID.fullmatch(text) is not None


def _split_tag(rest: str) -> tuple[str, str | None]:
    head, slash, last = rest.rpartition("/")
    base, _, tag = last.partition(":")
    return f"{head}{slash}{base}", tag or None


def _split_registry(name: str) -> tuple[str, str]:
    """As Docker does: what stands before the first slash is a registry only where it looks like a host."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, rest = DOCKER_HUB, name
    registry = first.lower()
    if registry in _HUB_NAMES:
        registry = DOCKER_HUB
        rest = rest if "/" in rest or rest == "**" else f"library/{rest}"
    return registry, rest


def _regex(pattern: str) -> str:
    """``*`` is any text within a part, ``**`` any text."""
    parts = re.split(r"(\*\*|\*)", pattern)
    return "".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
