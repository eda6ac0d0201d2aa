"""Artifacts: the files that a step leaves, and those that it finds"""

import asyncio
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from flows.contracts import WorkFile
from flows.values import StepStatus
from steps.sandbox import artifacts
from steps.sandbox.limits import MB, Language
from steps.sandbox.pool import Sandboxes
from tests.artifacts import work_file
from tests.sandbox.conftest import Leave, RecordingHost, job, told

attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner
SUCCEEDED = (StepStatus.SUCCEEDED, None)


@pytest.mark.both_users
async def test_files_are_collected_with_their_contents(leave: Leave) -> None:
    code = """
import os, pathlib
pathlib.Path("artifacts/table.csv").write_text("a,b\\n1,2\\n")
place = pathlib.Path(os.environ["ARTIFACTS"], "deep/er")
place.mkdir(parents=True)
(place / "bytes.bin").write_bytes(bytes(range(256)))
(place / "empty").touch()
(place / "nothing").mkdir()
pathlib.Path("elsewhere.txt").write_text("not an artifact")
return "done"
"""
    outcome, left = await leave(code)
    assert (told(outcome), outcome.result, outcome.stderr) == (SUCCEEDED, "done", "")
    assert left == {"table.csv": b"a,b\n1,2\n", "deep/er/bytes.bin": bytes(range(256)), "deep/er/empty": b""}
    assert [file.path for file in outcome.artifacts] == sorted(left)


async def test_a_script_leaves_files_too(leave: Leave) -> None:
    outcome, left = await leave('echo hello > "$ARTIFACTS/hello.txt"; echo 1', "shell")
    assert (outcome.result, left) == ("1", {"hello.txt": b"hello\n"})


@pytest.mark.parametrize(
    ("code", "language", "status"),
    [
        ("open('artifacts/x', 'w').write('why')\nraise ValueError('no')", "python", "failed"),
        ("open('artifacts/x', 'w').write('why')\nimport os\nos.abort()", "python", "failed"),
        ("open('artifacts/x', 'w').write('why')\nreturn 'x' * 2_000_000", "python", "limit_exceeded"),
        ("printf why > artifacts/x; exit 3", "shell", "failed"),
        ("printf why > artifacts/x; sleep 60", "shell", "timed_out"),
        ("open('artifacts/x', 'w').write('why')\nimport time\ntime.sleep(60)", "python", "timed_out"),
    ],
)
async def test_a_step_that_does_not_succeed_leaves_its_files(
    leave: Leave, code: str, language: Language, status: str
) -> None:
    outcome, left = await leave(code, language, timeout=2)
    assert (outcome.status.value, left) == (status, {"x": b"why"})


async def test_an_error_of_the_code_is_told_in_its_own_words(leave: Leave) -> None:
    outcome, _left = await leave("ln -s x artifacts/link; echo 'it broke' >&2; exit 3", "shell")
    assert outcome.error is not None
    assert outcome.error.message == "exit status 3: it broke"
    assert outcome.stderr.splitlines()[-1].startswith("artifacts/link is left out of the artifacts")


@pytest.mark.parametrize(
    "code",
    [
        "import os, time\nopen('artifacts/x', 'w').write('x')\nos.kill(os.getpid(), 9)",
        "open('artifacts/x', 'w').write('x')\nwhile True: pass",
    ],
)
async def test_the_end_of_the_code_does_not_wait_for_artifacts(leave: Leave, code: str) -> None:
    outcome, left = await leave(code, timeout=1, grace=0.2)
    assert outcome.status in {StepStatus.KILLED, StepStatus.TIMED_OUT}
    assert left == {"x": b"x"}


async def test_code_that_has_to_be_killed_leaves_nothing(leave: Leave) -> None:
    code = "trap '' TERM; echo x > artifacts/x; while :; do sleep 0.1; done"
    outcome, left = await leave(code, "shell", timeout=0.5, grace=0.2)
    assert (outcome.status, left) == (StepStatus.TIMED_OUT, {})


async def test_javascript_leaves_files_through_the_supervisor(leave: Leave) -> None:
    code = """
await artifacts.write("page.html", "<p>ü</p>");
const big = new Uint8Array(600_000).fill(7);
await Promise.all([artifacts.write("deep/er/big.bin", big), artifacts.write("part", big.subarray(1, 4)), artifacts.write("empty", "")]);
await artifacts.write("buffer", new ArrayBuffer(2));
await artifacts.write("page.html", "<p>again</p>");
return typeof Deno;
"""
    outcome, left = await leave(code, "javascript")
    assert (told(outcome), outcome.result) == (SUCCEEDED, "undefined")
    assert left == {
        "page.html": b"<p>again</p>",
        "deep/er/big.bin": b"\7" * 600_000,
        "part": b"\7\7\7",
        "empty": b"",
        "buffer": b"\0\0",
    }


@attack(
    "leave files by names that lead elsewhere, from JavaScript",
    "an error, code `artifact_not_written`; none is written",
)
async def test_javascript_leaves_nothing_elsewhere(leave: Leave) -> None:
    code = r"""
const told = [];
await artifacts.write("a", "1");
for (const name of ["", "/etc/passwd", "../up", "a/../../up", "a/b", ".", "x/", "nul\0", "\ud800"])
  await artifacts.write(name, "2").then(() => told.push(name), (error) => told.push(error.code));
for (const given of [["x"], ["x", 5], [5, "x"], ["x".repeat(5000), "x"], ["x", {}]])
  await artifacts.write(...given).then(() => told.push(given), (error) => told.push(error.name));
return told;
"""
    outcome, left = await leave(code, "javascript")
    assert (told(outcome), left) == (SUCCEEDED, {"a": b"1"})
    assert outcome.result == ["artifact_not_written"] * 9 + ["TypeError"] * 5


async def test_javascript_that_fills_the_disk_is_told(leave: Leave) -> None:
    code = "await artifacts.write('big', new Uint8Array(3_000_000)); return 1"
    outcome, left = await leave(code, "javascript", disk=2 * MB)
    assert told(outcome) == (StepStatus.FAILED, "disk_full")
    assert len(left["big"]) < 3_000_000


async def test_a_step_finds_its_files(leave: Leave, tmp_path: Path) -> None:
    big = bytes(range(256)) * 20_000
    files = (
        work_file(tmp_path, "make/table.csv", b"a,b\n"),
        work_file(tmp_path, "make/deep/er/big.bin", big),
        work_file(tmp_path, "each/0/empty", b""),
    )
    code = """
import hashlib, os
found = sorted(os.path.join(folder, name) for folder, _, names in os.walk(".") for name in names)
open("make/table.csv", "a").write("1,2\\n")
return [found, open("make/table.csv").read(), hashlib.sha256(open("make/deep/er/big.bin", "rb").read()).hexdigest()]
"""
    outcome, left = await leave(code, files=files)
    assert (told(outcome), left) == (SUCCEEDED, {})
    assert outcome.result == [
        ["./each/0/empty", "./make/deep/er/big.bin", "./make/table.csv"],
        "a,b\n1,2\n",
        sha256(big).hexdigest(),
    ]
    outcome, _left = await leave("cat make/table.csv", "shell", files=files)
    assert outcome.result == "a,b"


async def test_bringing_files_is_not_of_the_steps_time(
    leave: Leave, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring = artifacts.bring

    async def slowly(files: tuple[WorkFile, ...], line: artifacts.Line) -> None:
        await asyncio.sleep(1)
        await bring(files, line)

    monkeypatch.setattr(artifacts, "bring", slowly)
    outcome, _left = await leave("cat a/x", "shell", files=(work_file(tmp_path, "a/x", b"x"),), timeout=0.9)
    assert (told(outcome), outcome.result) == (SUCCEEDED, "x")


async def test_collecting_is_not_of_the_steps_time(leave: Leave, monkeypatch: pytest.MonkeyPatch) -> None:
    collect = artifacts.collect

    async def slowly(*given: object) -> artifacts.Collected:
        await asyncio.sleep(1)
        return await collect(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(artifacts, "collect", slowly)
    outcome, left = await leave("echo x > artifacts/x", "shell", timeout=0.9)
    assert (told(outcome), left) == (SUCCEEDED, {"x": b"x\n"})
    assert outcome.duration < 0.9


async def test_files_that_need_more_memory_than_there_is_end_the_step(leave: Leave, tmp_path: Path) -> None:
    files = (work_file(tmp_path, "a/big", bytes(100 * MB)),)
    outcome, _left = await leave("echo 1", "shell", files=files, disk=200 * MB, memory=60 * MB)
    assert told(outcome) == (StepStatus.OUT_OF_MEMORY, "out_of_memory")


async def test_what_can_not_be_written_on_the_host_is_told(sandboxes: Sandboxes) -> None:
    def directory() -> Path:
        raise OSError(28, "No space left on device")

    given = replace(job("echo x > artifacts/x", "shell"), artifact_directory=directory)
    outcome = await sandboxes.execute(given, RecordingHost())
    assert told(outcome) == (StepStatus.FAILED, "artifacts_lost")
    assert outcome.error is not None
    assert outcome.error.message == (
        "the code ended, and its artifacts can't be written on Stepbox's machine: No space left on device"
    )
