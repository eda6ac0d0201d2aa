"""The public names of the language."""

import subprocess
import sys

import pytest

import flows


@pytest.mark.parametrize("name", flows.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(flows, name).__module__.startswith("flows.")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = flows.nothing_like_it


def test_the_language_loads_nothing_that_it_may_not() -> None:
    code = "import sys, steps, triggers, flows.loader, flows.registry; print(*sys.modules)"
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60, text=True)
    loaded = {module.partition(".")[0] for module in child.stdout.split()}
    heavy = {
        "prefect",
        "sqlmodel",
        "sqlalchemy",
        "httpx",
        "docker",
        "typer",
        "rich",
        "jsonschema",
        "croniter",
        "cel",
        "pandas",
    }
    assert not heavy & loaded
