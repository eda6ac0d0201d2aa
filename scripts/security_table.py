"""Writes the table of attacks in docs/security.md anew, from the marks on the tests: `make security-table`.

With --check it only says whether the table is current.
"""

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.sandbox.runners import names_of  # noqa: E402 - the tests are no package of the environment

DOCUMENT = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- attacks: begin -->", "<!-- attacks: end -->"
HEAD = "| attack | outcome | as | runner | test |\n|---|---|---|---|---|\n"


@dataclass
class Attacks:
    """A pytest plugin that takes down the marked tests as they are collected, each in the group of its module."""

    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    """By the title of a module and the id of a test without its parameters."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            mark = item.get_closest_marker("attack")
            if mark is not None and isinstance(item, pytest.Function):
                module, _separator, name = item.nodeid.partition("[")[0].partition("::")
                title = mark.kwargs.get("group") or (item.module.__doc__ or "").partition("\n")[0]
                what, outcome = mark.args
                test = f"[`{name.removeprefix('test_')}`](../{module})"
                row = f"| {what} | {outcome} | {_users(item)} | {', '.join(names_of(item))} | {test} |\n"
                self.rows.setdefault(title, {})[name] = row


def _users(item: pytest.Function) -> str:
    if item.get_closest_marker("both_users"):
        return "root, user"
    return "user" if item.get_closest_marker("ordinary_user") else "root"


def table() -> str:
    """The table, a part for each module.

    Raises:
        RuntimeError: the tests can't be collected.
    """
    attacks, told = Attacks(), io.StringIO()
    with contextlib.redirect_stdout(told):
        status = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", str(ROOT / "tests" / "sandbox")],
            plugins=[attacks],
        )
    if status is not pytest.ExitCode.OK:
        raise RuntimeError(f"the tests can't be collected:\n{told.getvalue()}")
    count = sum(map(len, attacks.rows.values()))
    return f"{count} attacks.\n\n" + "\n".join(_parts(attacks))


def _parts(attacks: Attacks) -> Iterator[str]:
    for title, rows in attacks.rows.items():
        yield f"### {title}\n\n{HEAD}{''.join(rows.values())}"


def main() -> None:
    text = DOCUMENT.read_text()
    before, _begin, rest = text.partition(BEGIN)
    _old, _end, after = rest.partition(END)
    current = f"{before}{BEGIN}\n{table()}{END}{after}"
    if "--check" not in sys.argv:
        DOCUMENT.write_text(current)
    elif text != current:
        sys.exit("docs/security.md is not current: run `make security-table`")


if __name__ == "__main__":
    main()
