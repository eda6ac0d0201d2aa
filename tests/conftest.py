"""What holds for all tests."""

import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

IMAGE_DEADLINE = 900.0
"""Seconds that building the guest image may take, its base from Debian's packages included."""

# No test asserts an absolute time: a busy machine is no failure.
settings.register_profile("stepbox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stepbox")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Wait for the guest image, where it is still being built, before a test's own time begins to run."""
    told = os.environ.get("STEPBOX_TEST_DOCKER_IMAGE")
    deadline = time.monotonic() + IMAGE_DEADLINE
    while told and "docker" in item.nodeid and not Path(told).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: whatever it needs must be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
