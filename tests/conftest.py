"""What holds for all tests."""

import os

import pytest
from hypothesis import HealthCheck, settings

# No test asserts an absolute time: a busy machine is no failure.
settings.register_profile("stepbox", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("stepbox")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure: whatever it needs must be there."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
