"""What may lie where artifacts are collected: links, nodes, sparse and endless files, odd names, what changes"""

import pytest

from flows.values import StepStatus
from steps.sandbox.limits import MAX_ARTIFACTS, MB
from tests.sandbox.conftest import Leave, told

attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner
SUCCEEDED = (StepStatus.SUCCEEDED, None)
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
