"""Signals, whatever the command is doing."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = "from ui.cli import main; main()"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def reading(process: subprocess.Popen[str]) -> None:
    """Wait until the process, which tells before it reads, waits in the reading."""
    assert process.stderr is not None
    assert process.stderr.readline() == "reading\n"
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        assert process.poll() is None


def ended(process: subprocess.Popen[str], how: signal.Signals) -> tuple[int, str, str]:
    """Exit status and output after a signal; standard input stays open."""
    process.send_signal(how)
    with process:
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
        assert process.stdout is not None
        assert process.stderr is not None
        return process.returncode, process.stdout.read(), process.stderr.read()


@pytest.mark.parametrize("how", SIGNALS)
def test_a_signal_during_the_imports(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(100)")
    process = start(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {MAIN}", "validate", "-")
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    assert ended(process, how) == (130, "", "")


TOLD = (
    "import io, sys\n"
    "class Told(io.BufferedReader):\n"
    "    def read(self, size=-1):\n"
    "        print('reading', file=sys.stderr, flush=True)\n"
    "        return super().read(size)\n"
    "sys.stdin = io.TextIOWrapper(Told(io.FileIO(0)))\n"
)
"""Tells that standard input is read, which then waits."""


@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "-"),
        ("run", "ok.yaml", "--inputs", "-"),
        ("exec", "-l", "python"),
        ("flows", "apply", "-"),
        ("validate", "-"),
    ],
    ids=" ".join,
)
def test_a_signal_while_standard_input_is_read(tmp_path: Path, arguments: tuple[str, ...], how: signal.Signals) -> None:
    (tmp_path / "ok.yaml").write_text("flow: ok\nsteps: [{id: a, shell: ls}]")
    code = f"import os; os.chdir({str(tmp_path)!r})\n{TOLD}{MAIN}"
    process = start(code, *arguments, "--output", "json", STEPBOX_HOME=str(tmp_path / "home"))
    reading(process)
    status, output, errors = ended(process, how)
    assert (status, errors) == (130, "")
    assert json.loads(output)["error"]["code"] == "interrupted"


def test_a_hang_up_that_the_caller_ignores_stays_ignored(tmp_path: Path) -> None:
    code = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{TOLD}{MAIN}"
    process = start(code, "validate", "-")
    reading(process)
    process.send_signal(signal.SIGHUP)
    output, _errors = process.communicate("flow: ok\nsteps: [{id: a, shell: ls}]", timeout=60)
    assert process.returncode == 0
    assert "flow ok" in output


WORK = """
import asyncio, sys
import ui.cli, ui.cli.doors
from ui.cli.options import Output
import signal, typer
for number in ui.cli.SIGNALS: signal.signal(number, ui.cli.interrupt)
async def work():
    try:
        print("working", flush=True)
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        print("cleaning", flush=True)
        {cleaning}
        print("clean", flush=True)
        return 130
typer.run(lambda: ui.cli.doors.leave(work, Output.JSON))
"""


@pytest.mark.parametrize("how", SIGNALS)
def test_the_first_signal_cancels_the_work_which_cleans_up(how: signal.Signals) -> None:
    process = start(WORK.format(cleaning="await asyncio.sleep(0.05)"))
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    assert ended(process, how) == (130, "cleaning\nclean\n", "")


@pytest.mark.parametrize("how", SIGNALS)
def test_a_second_signal_ends_the_cleaning_up(how: signal.Signals) -> None:
    process = start(WORK.format(cleaning="await asyncio.sleep(100)"))
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(how)
    assert process.stdout.readline() == "cleaning\n"
    status, output, errors = ended(process, how)
    assert (status, errors) == (130, "")
    assert json.loads(output)["error"]["code"] == "interrupted"


@pytest.mark.parametrize("how", SIGNALS)
def test_a_third_signal_ends_what_does_not_end(how: signal.Signals) -> None:
    stubborn = (
        "try: await asyncio.sleep(100)\n"
        "        except asyncio.CancelledError:\n"
        "            print('again', flush=True)\n"
        "            import time; time.sleep(100)"
    )
    process = start(WORK.format(cleaning=stubborn))
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    for told in ("cleaning\n", "again\n"):
        process.send_signal(how)
        assert process.stdout.readline() == told
    status, output, errors = ended(process, how)
    assert (status, errors) == (130, "")
    assert json.loads(output)["error"]["code"] == "interrupted"


def test_a_signal_after_the_document_adds_no_second_one() -> None:
    process = start(WORK.format(cleaning="from ui.cli.show import print_json; print_json(1); await asyncio.sleep(100)"))
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGTERM)
    assert [process.stdout.readline() for _line in range(2)] == ["cleaning\n", "1\n"]
    assert ended(process, signal.SIGTERM) == (130, "", "")
