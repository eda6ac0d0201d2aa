"""Which images a pattern has: by registry, repository, tag and digest, as Docker reads a reference."""

import pytest

from steps.image_reference import ImagePattern, ImageReference, may_be_an_id

DIGEST = f"sha256:{'a' * 64}"
OTHER = f"sha256:{'b' * 64}"


def has(pattern: str, reference: str) -> bool:
    return ImagePattern.parse(pattern).matches(ImageReference.parse(reference))


@pytest.mark.parametrize(
    ("pattern", "reference"),
    [
        ("python", "python:3.12"),
        ("python", f"docker.io/library/python@{DIGEST}"),
        ("python:latest", "python"),
        ("python:3.12*", "index.docker.io/library/python:3.12-slim"),
        ("docker.io/team/*", "team/app:1"),
        ("team/*", "docker.io/team/app"),
        ("registry.example.com/**", "registry.example.com/team/deep/app:1"),
        ("registry.example.com:5000/team/*", "registry.example.com:5000/team/app"),
        ("*.example.com/**", "eu.example.com/app"),
        ("REGISTRY.example.com/app", "registry.example.com/app:2"),
        ("localhost/app", "localhost/app"),
        (f"python@{DIGEST}", f"python:3.12@{DIGEST}"),
        ("python@*", f"python@{OTHER}"),
        ("**", "anything.example.org:1/at/all:x"),
    ],
)
def test_pattern_has_the_image(pattern: str, reference: str) -> None:
    assert has(pattern, reference)


@pytest.mark.parametrize(
    ("pattern", "reference"),
    [
        ("python", "pythonx:3.12"),
        ("python", "evil/python:3.12"),
        ("python", "evil.example.com/library/python"),
        ("python:3.12*", "python:3.11"),
        ("python:3.12*", "python"),
        # The Engine looks at the digest alone: any image of the repository might stand behind the allowed tag.
        ("python:3.12*", f"python:3.12@{DIGEST}"),
        ("python:*", f"python@{DIGEST}"),
        (f"python@{DIGEST}", f"python@{OTHER}"),
        (f"python@{DIGEST}", "python:3.12"),
        ("python@*", "python:3.12"),
        ("team/*", "team/deep/app"),
        ("team/*", "registry.example.com/team/app"),
        ("registry.example.com/**", "registry.example.com.evil.net/app"),
        ("registry.example.com/**", "registryXexample.com/app"),
        ("registry.example.com/**", "registry.example.com:5000/app"),
        ("*.example.com/**", "example.com/app"),
        ("*.example.com/**", "evil.net/x.example.com/app"),
    ],
)
def test_pattern_has_no_other_image(pattern: str, reference: str) -> None:
    assert not has(pattern, reference)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "write it as an image"),
        ("a b", "write it as an image"),
        ("x@sha256:12", "64 hexadecimal digits"),
        (f"x:1@{DIGEST}", "remove the tag"),
        ("registry.example.com:5000", "may be a registry"),
        ("localhost:5000", "may be a registry"),
        ("a/***", "write it as an image"),
    ],
)
def test_what_is_no_pattern_says_what_to_write(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ImagePattern.parse(pattern)


def test_name_that_may_be_an_id() -> None:
    assert may_be_an_id("cafe")
    assert not may_be_an_id("cafe:1")
    assert not may_be_an_id("team/cafe")
