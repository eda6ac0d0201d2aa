"""The lock has every dependency, at a version that is allowed, and no address."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[^ ;\\]+)", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {canonicalize_name(pin["name"]): pin["version"] for pin in PIN.finditer(text)}


def declared() -> Iterator[tuple[str, Requirement]]:
    for text in PROJECT["project"]["dependencies"]:
        yield "runtime", Requirement(text)
        yield "dev", Requirement(text)
    for text in PROJECT["dependency-groups"]["dev"]:
        yield "dev", Requirement(text)


@pytest.mark.parametrize(("lock", "requirement"), list(declared()), ids=str)
def test_every_dependency_is_locked_at_a_version_it_allows(lock: str, requirement: Requirement) -> None:
    version = locked(lock).get(canonicalize_name(requirement.name))
    assert version is not None, f"{requirement.name} is not in requirements/{lock}.txt: run `make lock`"
    assert requirement.specifier.contains(version, prereleases=True)


@pytest.mark.parametrize("lock", ["runtime", "dev", "demo"])
def test_the_lock_names_no_address(lock: str) -> None:
    assert "://" not in (ROOT / "requirements" / f"{lock}.txt").read_text()


def test_both_locks_agree() -> None:
    dev = locked("dev")
    assert {name: dev.get(name) for name in locked("runtime")} == locked("runtime")
