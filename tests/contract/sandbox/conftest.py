"""The same runners as for the attacks."""

from tests.sandbox.conftest import pytest_generate_tests, runner, step_interpreter

__all__ = ["pytest_generate_tests", "runner", "step_interpreter"]
