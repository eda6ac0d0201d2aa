"""The installed wheel, from outside the repository."""

import re
from pathlib import Path

import pytest

from tests.acceptance.conftest import Stepbox

PACKAGES = ("flows", "steps", "triggers", "engine", "ui")
COMMANDS = (
    ("init",),
    ("validate",),
    ("run",),
    ("exec",),
    ("flows", "list"),
    ("flows", "show"),
    ("flows", "apply"),
    ("flows", "versions"),
    ("flows", "enable"),
    ("flows", "disable"),
    ("flows", "delete"),
    ("runs", "list"),
    ("runs", "show"),
    ("runs", "logs"),
    ("runs", "cancel"),
    ("runs", "retry"),
    ("serve",),
    ("tokens", "create"),
    ("tokens", "list"),
    ("tokens", "revoke"),
    ("schema",),
    ("doctor",),
)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_top_level_package_resolves_to_ours(stepbox: Stepbox, package: str) -> None:
    found = stepbox.python(f"import {package}; print(*{package}.__path__)").stdout.split()
    assert len(found) == 1
    assert Path(found[0]).parent.name == "site-packages"
    assert stepbox.bin.parent in Path(found[0]).parents
    owners = stepbox.python(f"import importlib.metadata as m; print(*m.packages_distributions()['{package}'])")
    assert set(owners.stdout.split()) == {"stepbox"}


def test_the_wheel_ships_types_migrations_library_and_guest(stepbox: Stepbox) -> None:
    listed = stepbox.python("import importlib.metadata as m; print(*m.files('stepbox'), sep='\\n')").stdout.split("\n")
    for package in PACKAGES:
        assert f"{package}/py.typed" in listed
    assert any(re.fullmatch(r"engine/store/migrations/versions/\w+\.py", path) for path in listed)
    assert "flows/library/close_stale_tasks/close_stale_tasks.yaml" in listed
    assert not [path for path in listed if path.startswith("tests/")]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(stepbox: Stepbox, command: tuple[str, ...]) -> None:
    outcome = stepbox(*command, "--help")
    assert outcome.status == 0
    assert "Example: " in outcome.stdout
    assert f"stepbox {' '.join(command)}" in re.sub(r"[│\s]+", " ", outcome.stdout)


def test_help_names_every_command(stepbox: Stepbox) -> None:
    outcome = stepbox("--help")
    assert outcome.status == 0
    for command in {words[0] for words in COMMANDS}:
        assert re.search(rf"│ {command}\s", outcome.stdout)


def test_version(stepbox: Stepbox) -> None:
    assert re.fullmatch(r"stepbox \d+\.\d+\.\d+\n", stepbox("--version").stdout)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(stepbox: Stepbox, shell: str) -> None:
    variables = {"_STEPBOX_COMPLETE": f"source_{shell}"}
    outcome = stepbox(**variables)
    assert outcome.status == 0
    assert "stepbox" in outcome.stdout
    assert "_STEPBOX_COMPLETE" in outcome.stdout


SERVICE = ("fastapi", "starlette", "uvicorn", "structlog", "prometheus_client", "argon2", "watchfiles")
HEAVY = ("prefect", "sqlalchemy", "httpx", *SERVICE)


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (("--help",), (*HEAVY, "pydantic_core", "ruamel", "rich.live")),
        (("schema",), HEAVY),
        (("validate", "ok.yaml"), (*HEAVY, "rich.live")),
        (("exec", "-l", "python", "-f", "ok.py"), ("prefect", *SERVICE)),
        (("flows", "list"), ("prefect", "httpx", *SERVICE)),
        (("tokens", "list"), ("prefect", "httpx", "fastapi", "uvicorn", "structlog", "argon2")),
    ],
    ids=lambda value: value[0],
)
def test_light_commands_import_little(stepbox: Stepbox, arguments: tuple[str, ...], heavy: tuple[str, ...]) -> None:
    stepbox.flow("ok", "flow: ok\nsteps: [{id: a, shell: 'true'}]")
    (stepbox.directory / "ok.py").write_text("return 1")
    outcome = stepbox.python(
        f"import sys\nfrom ui.cli import main\nsys.argv = ['stepbox', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code\n"
        f"print('imported', *(name for name in {heavy!r} if name in sys.modules), file=sys.stderr)"
    )
    assert (outcome.status, outcome.stderr) == (0, "imported\n")
    assert outcome.stdout


def test_listing_the_examples_makes_nothing(stepbox: Stepbox) -> None:
    outcome = stepbox("init", "--example", "list")
    assert outcome.status == 0
    assert "flight_weather" in outcome.stdout
    assert list(stepbox.directory.iterdir()) == []
    listed = stepbox("init", "--example", "list", "--output", "json").json()
    assert "word_frequencies" in listed["examples"]
