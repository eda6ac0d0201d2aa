"""Standard streams that close, fill up, or don't take every character."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CALL = "from ui.cli.streams import prepare; prepare(); from ui.cli.show import *; "


def python(code: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", CALL + code], check=False, timeout=60, **options)  # type: ignore[call-overload, no-any-return]


def test_a_reader_that_left_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = "[(print_json([1] * 1000), out().print('x'), err().print('y'), write('z', to='stderr')) for n in range(9)]"
    with os.fdopen(writing) as pipe:
        assert python(code, stdout=pipe, stderr=subprocess.PIPE).returncode == 0
        assert python(code, stdout=subprocess.DEVNULL, stderr=pipe).returncode == 0


def test_a_full_disk_is_an_error_of_standard_output_alone() -> None:
    with Path("/dev/full").open("w") as full:
        ended = python(
            "from ui.cli.doors import leave; import typer; typer.run(lambda: leave(lambda: print_json(1) or 0))",
            stdout=full,
            stderr=subprocess.PIPE,
        )
        assert (ended.returncode, ended.stderr.count(b"\n")) == (1, 1)
        assert b"output_failed" in ended.stderr
        assert b"No space left" in ended.stderr
        assert python("err().print('x')", stdout=subprocess.PIPE, stderr=full).returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_text_can_be_shown_in_any_encoding(encoding: str) -> None:
    ended = python(
        "print_json('– é \\ud800'); err().print('– é')",
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert ended.returncode == 0
    assert json.loads(ended.stdout.decode(encoding)) == "– é \ud800"
    assert (rb"\u2013" in ended.stderr) == (encoding != "utf-8")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_streams_may_be_closed_from_the_start(closed: str) -> None:
    code = CALL + "import sys; print_json(1); err().print('x'); sys.stdin.read() if sys.stdin.fileno() == 0 else 0"
    command = ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code]
    assert subprocess.run(command, check=False, timeout=60, stdin=subprocess.DEVNULL).returncode == 0
