"""The runners that the suite is run against, each as an installation would have it."""

import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pytest

from steps.sandbox.docker.endpoint import Endpoint
from steps.sandbox.docker.runner import DockerRunner
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.protocol import Runner

IMAGE_DEADLINE = 160.0
"""Seconds, within the 180 of a test that doesn't say docker in its name; see tests/conftest.py for the others."""


def docker_endpoint() -> Endpoint:
    """The Engine that scripts/services.py starts for the tests; in CI there must be one."""
    host = os.environ.get("STEPBOX_TEST_DOCKER_HOST")
    if host:
        wait_for_the_image()
        return Endpoint(url=host)
    if os.environ.get("CI") == "true":
        pytest.fail("STEPBOX_TEST_DOCKER_HOST is not set: run the tests by scripts/services.py")
    pytest.skip("no Docker Engine for tests: run them by scripts/services.py")


@cache
def wait_for_the_image() -> None:
    """Wait until the guest image, which may still be being built, is there."""
    told = os.environ.get("STEPBOX_TEST_DOCKER_IMAGE")
    deadline = time.monotonic() + IMAGE_DEADLINE
    while told and not Path(told).exists():
        assert time.monotonic() < deadline, "the guest image is still being built"
        time.sleep(0.1)
    if told and (wrong := Path(told).read_text(encoding="utf-8")):
        pytest.fail(wrong)


RUNNERS: Mapping[str, Callable[[], Runner]] = {
    "nsjail": NsjailRunner,
    "docker": lambda: DockerRunner(docker_endpoint()),
}
FOR_ORDINARY_USERS = {"nsjail"}
"""Those that isolate otherwise, or by other means, where the engine isn't root."""


def names_of(item: pytest.Function) -> list[str]:
    """The runners that a test is for: those that it is marked with, else the jail."""
    if (only := item.get_closest_marker("only_runner")) is not None:
        return [name for name in RUNNERS if name in only.args]
    return list(RUNNERS) if item.get_closest_marker("every_runner") is not None else ["nsjail"]


def names_for(item: pytest.Function) -> list[str]:
    """The runners with which a test is to be run by this user."""
    names = names_of(item)
    return names if os.geteuid() == 0 else [name for name in names if name in FOR_ORDINARY_USERS]
