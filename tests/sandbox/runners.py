"""The runners that the suite is run against, each as an installation would have it."""

import os
from collections.abc import Callable, Mapping

import pytest

from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.protocol import Runner

RUNNERS: Mapping[str, Callable[[], Runner]] = {"nsjail": NsjailRunner}
FOR_ORDINARY_USERS = {"nsjail"}
"""Those that isolate otherwise, or by other means, where the engine isn't root."""


def names_for(item: pytest.Function) -> list[str]:
    """The runners with which a test is to be run by this user."""
    marker = item.get_closest_marker("only_runner")
    names = list(RUNNERS) if marker is None else [name for name in RUNNERS if name in marker.args]
    return names if os.geteuid() == 0 else [name for name in names if name in FOR_ORDINARY_USERS]
