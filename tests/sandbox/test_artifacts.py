"""Artifacts: the files that a step leaves, and those that it finds"""

import asyncio
import tempfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import pytest

from flows.contracts import WorkFile
from flows.values import StepStatus
from steps.sandbox import artifacts
from steps.sandbox.limits import MAX_ARTIFACTS, MB, Language
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Outcome
from tests.artifacts import content_of, work_file
from tests.sandbox.conftest import RecordingHost, job, told

attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner
SUCCEEDED = (StepStatus.SUCCEEDED, None)


class Leave(Protocol):
    """Runs code that may leave artifacts; gives the outcome, and what it left by path."""

    async def __call__(
        self, code: str, language: Language = "python", *, files: tuple[WorkFile, ...] = (), **limits: float
    ) -> tuple[Outcome, dict[str, bytes]]: ...


@pytest.fixture
def leave(sandboxes: Sandboxes, tmp_path: Path) -> Leave:
    def directory() -> Path:
        return Path(tempfile.mkdtemp(dir=tmp_path))

    async def run(
        code: str, language: Language = "python", *, files: tuple[WorkFile, ...] = (), **limits: float
    ) -> tuple[Outcome, dict[str, bytes]]:
        host = RecordingHost()
        given = replace(job(code, language, inputs=None, tools=(), **limits), files=files, artifact_directory=directory)
        outcome = await sandboxes.execute(given, host)
        # What is noted on artifacts is in the log as well.
        notes = [line for line in outcome.stderr.splitlines() if "left out of the artifacts" in line]
        assert [line for stream, line in host.lines if "left out of the artifacts" in line] == notes
        return outcome, {file.path: content_of(file) for file in outcome.artifacts}

    return run


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


LINKS = """
import os
os.symlink("/etc/passwd", "artifacts/passwd")
os.symlink("/etc", "artifacts/etc")
os.symlink("..", "artifacts/up")
os.symlink("loop", "artifacts/loop")
os.symlink("nowhere", "artifacts/dangling")
open("artifacts/real", "w").write("real")
os.symlink("real", "artifacts/near")
"""


@pytest.mark.both_users
@attack(
    "leave symbolic links: to files and directories of the system, up, to themselves",
    "left out, with a line that says so; never followed",
)
async def test_symbolic_links_are_left_out(leave: Leave) -> None:
    outcome, left = await leave(LINKS)
    assert (told(outcome), left) == (SUCCEEDED, {"real": b"real"})
    assert outcome.stderr.splitlines() == [
        f"artifacts/{name} is left out of the artifacts: it is a symbolic link; write a copy of the file"
        for name in ("dangling", "etc", "loop", "near", "passwd", "up")
    ]


@attack("leave hard links to one file", "each is a file of its own, and counts as such")
async def test_hard_links_are_files_of_their_own(leave: Leave) -> None:
    code = (
        "import os\nopen('artifacts/a', 'w').write('x' * 100)\nfor n in '12': os.link('artifacts/a', f'artifacts/{n}')"
    )
    outcome, left = await leave(code, artifacts=300)
    assert (told(outcome), left) == (SUCCEEDED, dict.fromkeys("12a", b"x" * 100))
    outcome, left = await leave(code, artifacts=299)
    assert (told(outcome), left) == ((StepStatus.LIMIT_EXCEEDED, "artifacts_too_large"), {})


@attack("leave FIFOs and sockets", "left out, with a line that says so; nothing waits for them")
async def test_what_is_no_file_is_left_out(leave: Leave) -> None:
    code = """
import os, socket
os.mkfifo("artifacts/fifo")
server = socket.socket(socket.AF_UNIX)
server.bind("artifacts/socket")
open("artifacts/file", "w").close()
"""
    outcome, left = await leave(code)
    assert (told(outcome), left) == (SUCCEEDED, {"file": b""})
    assert outcome.stderr.splitlines() == [
        "artifacts/fifo is left out of the artifacts: it is a FIFO, not a file",
        "artifacts/socket is left out of the artifacts: it is a socket, not a file",
    ]


@attack("leave a device", "it can't be made: `EPERM`")
async def test_devices_can_not_be_made(leave: Leave) -> None:
    code = """
import errno, os, stat
try: os.mknod("artifacts/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
except OSError as error: return errno.errorcode[error.errno]
"""
    outcome, left = await leave(code)
    assert (outcome.result, left) == ("EPERM", {})


@pytest.mark.both_users
@attack(
    "leave a sparse file: of a petabyte, and of more than the limit",
    "`limit_exceeded`, code `artifacts_too_large`, before a byte of it is read; in the jail `EFBIG` beyond the disk",
)
async def test_sparse_file_counts_by_its_apparent_size(leave: Leave) -> None:
    code = "file = open('artifacts/sparse', 'wb')\nfile.truncate({})"
    outcome, left = await leave(code.format(2**50))
    if outcome.isolation == "jail":
        # Whose limit of a file's size is that of the disk.
        assert (told(outcome), left) == ((StepStatus.FAILED, "exception"), {"sparse": b""})
    else:
        assert (told(outcome), left) == ((StepStatus.LIMIT_EXCEEDED, "artifacts_too_large"), {})
        assert outcome.error is not None
        assert "artifacts/sparse (1,125,899,906.842624 MB) makes" in outcome.error.message
    outcome, left = await leave(code.format(60 * MB))
    assert (told(outcome), left) == ((StepStatus.LIMIT_EXCEEDED, "artifacts_too_large"), {})
    outcome, left = await leave(code.format(3 * MB))
    assert (told(outcome), left) == (SUCCEEDED, {"sparse": bytes(3 * MB)})


@attack(
    "leave more bytes than `limits.artifacts`, by one file and by many",
    "`limit_exceeded`, code `artifacts_too_large`, with the file; none is kept",
)
@pytest.mark.parametrize(
    "code",
    [
        "open('artifacts/big', 'wb').write(bytes(2001))",
        "for n in range(3): open(f'artifacts/{n}', 'wb').write(bytes(667))",
    ],
)
async def test_artifacts_beyond_their_limit_are_not_kept(leave: Leave, code: str) -> None:
    outcome, left = await leave(code, artifacts=2000)
    assert (told(outcome), left, outcome.result) == ((StepStatus.LIMIT_EXCEEDED, "artifacts_too_large"), {}, None)
    assert outcome.error is not None
    assert "makes the artifacts larger than 0.002 MB" in outcome.error.message
    assert "limits.artifacts" in (outcome.error.fix or "")
    outcome, left = await leave(code, artifacts=2001)
    assert (told(outcome), sum(map(len, left.values()))) == (SUCCEEDED, 2001)


async def test_beyond_a_limit_the_error_of_the_code_stays(leave: Leave) -> None:
    outcome, left = await leave("open('artifacts/big', 'wb').write(bytes(100))\nraise ValueError('mine')", artifacts=99)
    assert (told(outcome), left) == ((StepStatus.FAILED, "exception"), {})
    assert "no artifacts are kept: artifacts/big (0.0001 MB) makes" in outcome.stderr


@attack(
    "leave 100,000 files", "the directory takes 16,384; more than 1,000 are `limit_exceeded`, code `too_many_artifacts`"
)
async def test_number_of_artifacts_is_limited(leave: Leave) -> None:
    code = "for number in range({}): open(f'artifacts/{{number:06}}', 'w').close()"
    outcome, left = await leave(code.format(MAX_ARTIFACTS))
    assert (told(outcome), len(left)) == (SUCCEEDED, MAX_ARTIFACTS)
    outcome, left = await leave(code.format(MAX_ARTIFACTS + 1))
    assert (told(outcome), left) == ((StepStatus.LIMIT_EXCEEDED, "too_many_artifacts"), {})
    assert outcome.error is not None
    assert outcome.error.message == "artifacts/001000 is one more than the 1,000 artifacts that a step may leave"
    outcome, left = await leave(f"try:\n    {code.format(100_000)}\nexcept OSError as error: return error.errno")
    assert (told(outcome), left) == ((StepStatus.LIMIT_EXCEEDED, "too_many_artifacts"), {})


@attack("leave directories 1,000 deep", "`limit_exceeded`, code `artifact_too_deep`")
async def test_depth_of_artifacts_is_limited(leave: Leave) -> None:
    code = (
        "import os\nos.chdir('artifacts')\nfor _ in range({}): os.mkdir('d'); os.chdir('d')\nopen('file', 'w').close()"
    )
    outcome, left = await leave(code.format(20))
    assert (told(outcome), left) == (SUCCEEDED, {"d/" * 20 + "file": b""})
    for depth in (21, 1000):
        outcome, left = await leave(code.format(depth))
        assert (told(outcome), left) == ((StepStatus.LIMIT_EXCEEDED, "artifact_too_deep"), {})


@attack("leave a path that is longer than stores take", "`limit_exceeded`, code `artifact_path_too_long`")
async def test_length_of_a_path_is_limited(leave: Leave) -> None:
    code = "import os\nplace = 'artifacts/' + '/'.join(['ü' * 127] * 4)\nos.makedirs(place)\nopen(f'{{place}}/{}', 'w').close()"
    outcome, left = await leave(code.format("x" * 4))
    assert (told(outcome), [len(path.encode()) for path in left]) == (SUCCEEDED, [1024])
    outcome, left = await leave(code.format("x" * 5))
    assert (told(outcome), left) == ((StepStatus.LIMIT_EXCEEDED, "artifact_path_too_long"), {})


@attack(
    "leave names with newlines, escapes, or that are no UTF-8",
    "left out, with a line that shows the name; all others are kept as they are",
)
async def test_odd_names_have_one_outcome_each(leave: Leave) -> None:
    kept = [
        "-rf",
        "--help",
        " space ",
        "...",
        ".hidden",
        "back\\slash",
        "C:drive",
        "CON",
        "$(id)",
        "`id`",
        "*",
        "ü",
        "\u202etxt.exe",
        "a" * 255,
        "'\"<&>",
    ]
    code = """
import os
for name in inputs["names"]: open(f"artifacts/{name}", "w").write(name)
for name in (b"new\\nline", b"\\x1b[31m", b"\\xff\\xfe", b"\\xed\\xa0\\x80", b"\\x7f", "\\x9b".encode()): open(b"artifacts/" + name, "w").close()
os.mkdir(b"artifacts/\\xff")
open(b"artifacts/\\xff/inside", "w").close()
"""
    outcome, left = await leave(code.replace('inputs["names"]', repr(kept)))
    assert (told(outcome), left) == (SUCCEEDED, {name: name.encode() for name in kept})
    notes = outcome.stderr.splitlines()
    assert [note.partition(" is left out")[0] for note in notes] == [
        *("artifacts/\\x1b[31m", "artifacts/new\\x0aline", "artifacts/\\x7f", "artifacts/\\x9b"),
        *("artifacts/\\xed\\xa0\\x80", "artifacts/\\xff", "artifacts/\\xff\\xfe"),
    ]
    assert all(note.endswith("its name is not UTF-8, or has control characters") for note in notes)


@attack("leave so much that is left out that the log would be full of it", "20 are named, the others are counted")
async def test_only_the_first_that_are_left_out_are_named(leave: Leave) -> None:
    outcome, left = await leave("import os\nfor n in range(5000): os.symlink('x', f'artifacts/{n:04}')")
    assert (told(outcome), left) == (SUCCEEDED, {})
    notes = outcome.stderr.splitlines()
    assert (len(notes), notes[-1]) == (21, "and 4,980 more are left out of the artifacts")


@attack("leave files and directories that the supervisor may not read", "left out, with a line that says so")
async def test_files_without_permissions_are_left_out(leave: Leave) -> None:
    code = """
import os
open("artifacts/secret", "w").close()
os.chmod("artifacts/secret", 0)
os.mkdir("artifacts/closed")
open("artifacts/closed/x", "w").close()
os.chmod("artifacts/closed", 0)
open("artifacts/open", "w").close()
"""
    outcome, left = await leave(code)
    assert (told(outcome), left) == (SUCCEEDED, {"open": b""})
    assert [note.partition(":")[0] for note in outcome.stderr.splitlines()] == [
        "artifacts/closed is left out of the artifacts",
        "artifacts/secret is left out of the artifacts",
    ]


@attack(
    "put a link, a file or nothing in the place of the directory",
    "there are no artifacts; nothing outside of it is looked at",
)
@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("rmdir artifacts", None),
        ("rmdir artifacts; ln -s /etc artifacts", "it is no directory any more"),
        ("rmdir artifacts; ln -s nowhere artifacts", "it is no directory any more"),
        ("rmdir artifacts; echo x > artifacts", "it is no directory any more"),
        ("rmdir artifacts; mkfifo artifacts", "it is no directory any more"),
        ("echo x > artifacts/x; chmod 0 artifacts", "it can't be read, for its permissions"),
    ],
)
async def test_directory_that_is_none_has_no_artifacts(leave: Leave, code: str, note: str | None) -> None:
    outcome, left = await leave(code, "shell")
    assert (told(outcome), left) == (SUCCEEDED, {})
    assert outcome.stderr == ("" if note is None else f"artifacts is left out of the artifacts: {note}\n")


@pytest.mark.both_users
@attack(
    "change files while they are read: a process that outlives the code writes, truncates, renames, links",
    "it has been ended before the first file is looked at",
)
async def test_nobody_changes_files_while_they_are_read(leave: Leave) -> None:
    code = """
import os, time
for number in range(50): open(f"artifacts/{number:02}", "w").write("x" * 200_000)
def disturb(mine):
    os.setsid()
    while True:
        for number in range(mine, 50, 8):
            name = f"artifacts/{number:02}"
            try:
                os.truncate(name, 7)
                open(name, "w").write("y" * 200_000)
                os.rename(name, f"moved{mine}"); os.symlink("/etc/passwd", name); os.replace(f"moved{mine}", name)
            except OSError: pass
for mine in range(8):
    if os.fork() == 0: disturb(mine)
time.sleep(0.2)
"""
    outcome, left = await leave(code, timeout=30)
    # What was on its way when they were ended may be any of its states; each file is whole as it was then.
    assert told(outcome) == SUCCEEDED
    assert all("changed while it was read" not in note for note in outcome.stderr.splitlines())
    assert all(set(content) <= set(b"xy") for content in left.values())
    assert len(left) >= 50 - 8


@attack("leave a file, and a process that holds everything up", "it is ended, and the file is kept")
async def test_left_processes_do_not_hold_up_artifacts(leave: Leave) -> None:
    code = "for n in 1 2 3; do (trap '' TERM HUP; setsid sleep 300 < artifacts/ > artifacts/$n 2>&1) & done; sleep 0.2; echo x > artifacts/x"
    outcome, left = await leave(code, "shell")
    assert (told(outcome), left) == (SUCCEEDED, {"1": b"", "2": b"", "3": b"", "x": b"x\n"})


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
