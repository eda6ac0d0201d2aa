"""The channel, as a supervisor may abuse it that the code has taken over"""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.errors import RefusedError
from flows.values import StepStatus
from steps.sandbox import artifacts, jail, nsjail
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Outcome
from tests.artifacts import content_of
from tests.sandbox.conftest import RecordingHost, job, told, until
from tests.sandbox.snippets import FORGE

pytestmark = pytest.mark.only_runner("nsjail")
attack = pytest.mark.attack
VIOLATION = (StepStatus.FAILED, "channel_violation")

# Takes the place of what the supervisor does before it says that it is ready, and never comes back.
HOSTILE = f"""

def warm_up(*_given):
    import time
{FORGE.replace(chr(10), chr(10) + "    ")}
    def say(*frames):
        for one in frames: framing.write_all(HOST_OUT, one)
    def take():
        say(frame({{"kind": "ready"}}))
        framing.read_frame(HOST_IN)
        say(frame({{"kind": "taken"}}))
    try:
        {{lines}}
    finally:
        os._exit(0)
"""
# Takes the place of how a supervisor gets its line to the host.
ANNOUNCING = """

_announce = announce

def announce():
    desk = _socket.socket(fileno=os.dup(DESK))
    def give(*descriptors, data=b"\\0"):
        rights = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
        desk.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else [])
    {lines}
"""
RESULT = "frame({'kind': 'result'}, b'1')"
CALL = "frame({'kind': 'call', 'id': 1, 'tool': 'demo.echo'}, b'1')"
EXIT = "frame({'kind': 'exit', 'status': 0})"


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Replaces the guest by one that does these lines."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        place = Path(folder)
        place.chmod(0o755)
        shutil.copytree(jail.GUEST, place / "guest", ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(jail, "GUEST", place / "guest")

        def rewrite(lines: str, *, announcement: str | None = None) -> None:
            with (place / "guest" / "supervisor.py").open("a") as file:
                if lines:
                    file.write(HOSTILE.replace("{lines}", lines.replace("\n", "\n        ")))
            if announcement is not None:
                with (place / "guest" / "desk.py").open("a") as file:
                    file.write(ANNOUNCING.replace("{lines}", announcement.replace("\n", "\n    ")))

        yield rewrite


@pytest.fixture
async def sandboxes() -> AsyncIterator[Sandboxes]:
    """Made anew, for the guest is found when the first sandbox starts."""
    pool = Sandboxes(NsjailRunner())
    yield pool
    await pool.close()


@attack(
    "say something else than that it is ready: nothing, garbage, a giant frame, output, a result; or end",
    "the sandbox is refused",
)
@pytest.mark.parametrize(
    "lines",
    [
        "pass",
        "say(b'garbage, and more of it')",
        "say(frame({}, head=2**32 - 1))",
        "say(frame({'kind': 'ready'}, b'x'))",
        "say(frame({'kind': 'log', 'stream': 'stdout'}, b'x'))",
        f"say({RESULT})",
        f"say({EXIT})",
    ],
)
async def test_guest_that_is_not_ready_is_refused(
    guest: Callable[[str], None], sandboxes: Sandboxes, lines: str
) -> None:
    guest(lines)
    with pytest.raises(RefusedError, match="a sandbox could not be started"):
        await sandboxes.execute(job("return 1"), RecordingHost())


@attack(
    "announce itself wrongly: nothing, no line, a line that is none, many, from another process",
    "the sandbox is refused, and the host keeps no descriptor",
)
@pytest.mark.parametrize(
    "announcement",
    [
        "os._exit(0)",
        "give()\nos.read(DESK, 1)",
        "give(data=b'')\nos.read(DESK, 1)",
        "give(os.open('/dev/null', os.O_RDONLY))\nos.read(DESK, 1)",
        "give(*os.pipe())\nos.read(DESK, 1)",
        "if os.fork() == 0: _announce()\nos.read(DESK, 1)",
    ],
)
async def test_guest_that_announces_itself_wrongly_is_refused(
    guest: Callable[..., None], sandboxes: Sandboxes, announcement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nsjail, "START_TIMEOUT", 1.5)
    guest("", announcement=announcement)
    await sandboxes.runner.enforcement()
    before = descriptors()
    with pytest.raises(RefusedError, match=r"a sandbox could not be started|a sandbox was not ready"):
        await sandboxes.execute(job("return 1"), RecordingHost())
    # asyncio closes what belongs to a process that has ended a moment later.
    await until(lambda: descriptors() <= before)


@attack("announce a second time, for the sandbox that will come after", "the next step runs in a sandbox of its own")
async def test_announcement_of_a_sandbox_that_is_gone_is_not_heard(
    guest: Callable[..., None], sandboxes: Sandboxes
) -> None:
    guest(
        "",
        announcement="ready = _announce\none, other = _socket.socketpair()\nready()\ngive(one.fileno())\nreturn True",
    )
    outcomes = [await sandboxes.execute(job(f"return {number}"), RecordingHost()) for number in range(3)]
    assert [outcome.result for outcome in outcomes] == [0, 1, 2]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@attack("never become ready, or byte by byte", "the sandbox is refused after a while")
@pytest.mark.parametrize(
    "lines", ["time.sleep(60)", "for byte in frame({'kind': 'ready'}):\n    say(bytes((byte,)))\n    time.sleep(1)"]
)
async def test_guest_that_takes_for_ever_is_refused(
    guest: Callable[[str], None], sandboxes: Sandboxes, lines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nsjail, "START_TIMEOUT", 1.5)
    guest(lines)
    with pytest.raises(RefusedError, match="not ready after"):
        await sandboxes.execute(job("return 1"), RecordingHost())


@attack(
    "be ready, and end or speak before it has taken the job", "another sandbox gets the job; after three it is refused"
)
@pytest.mark.parametrize("said", ["", EXIT])
async def test_job_that_was_not_taken_is_given_to_another(
    guest: Callable[[str], None], sandboxes: Sandboxes, said: str
) -> None:
    guest(f"say(frame({{'kind': 'ready'}}), {said or 'b' + repr('')})\nframing.read_frame(HOST_IN)")
    with pytest.raises(RefusedError, match="3 sandboxes ended"):
        await sandboxes.execute(job("return 1"), RecordingHost())


@attack(
    "send garbage, half a frame, frames out of turn, a second result, a call or an error after the result, a status "
    "that is no end, more than a kind of frame may hold",
    "`failed`, code `channel_violation`; no call is made",
)
@pytest.mark.parametrize(
    "lines",
    [
        "say(b'garbage, and more of it')",
        f"say({RESULT}[:-1])",
        "say(b'\\0')",
        "say(frame({'kind': 'ready'}))",
        "say(frame({'kind': 'taken'}))",
        f"say({RESULT}, {RESULT}, {EXIT})",
        f"say({RESULT}, frame({{'kind': 'error'}}, b'{{}}'), {EXIT})",
        f"say({RESULT}, {CALL}, {EXIT})",
        f"say(frame({{'kind': 'error'}}, b'{{}}'), {CALL}, {EXIT})",
        "say(frame({'kind': 'exit', 'status': 0x7f}))",
        "say(frame({'kind': 'exit', 'status': 0x137f}))",
        "say(frame({'kind': 'exit', 'status': 0xffff}))",
        "say(frame({'kind': 'exit', 'status': -1}))",
        "say(frame({'kind': 'log', 'stream': 'stdout'}, b'x' * 70_000))",
        "say(frame({'kind': 'result'}, b'1' * 1_000_001))",
        "say(frame({'kind': 'call', 'id': 1, 'tool': 'demo.echo'}, body=2**32 - 1))",
        "say(frame(b'{' + b' ' * 65_536 + b'}'))",
    ],
)
async def test_broken_protocol_is_a_failed_step(guest: Callable[[str], None], sandboxes: Sandboxes, lines: str) -> None:
    host = RecordingHost(tools={"demo.echo": lambda arguments: arguments})
    guest(f"take()\n{lines}")
    outcome = await sandboxes.execute(job("return 1", tools=("demo.echo",)), host)
    assert told(outcome) == VIOLATION
    assert host.calls == []


@attack(
    "take the job, and then hang, trickle, flood, end, or lie about the end",
    "what the host itself sees: `timed_out`, `killed`, `failed`",
)
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("time.sleep(60)", (StepStatus.TIMED_OUT, "timed_out")),
        (f"say({RESULT})\ntime.sleep(60)", (StepStatus.TIMED_OUT, "timed_out")),
        (
            f"for byte in {RESULT} * 100:\n    say(bytes((byte,)))\n    time.sleep(0.1)",
            (StepStatus.TIMED_OUT, "timed_out"),
        ),
        (
            "while True: say(frame({'kind': 'log', 'stream': 'stdout'}, b'x' * 60_000))",
            (StepStatus.TIMED_OUT, "timed_out"),
        ),
        ("while True: say(frame({'kind': 'log', 'stream': 'stdout'}))", (StepStatus.TIMED_OUT, "timed_out")),
        ("pass", (StepStatus.KILLED, "sandbox_lost")),
        (f"say({EXIT})", (StepStatus.FAILED, "no_result")),
        ("say(frame({'kind': 'exit', 'status': 9}))", (StepStatus.KILLED, "killed")),
        (f"for _call in range(101): say({CALL})\ntime.sleep(60)", (StepStatus.LIMIT_EXCEEDED, "too_many_tool_calls")),
    ],
)
async def test_host_believes_what_it_sees(
    guest: Callable[[str], None], sandboxes: Sandboxes, lines: str, expected: tuple[StepStatus, str]
) -> None:
    host = RecordingHost(tools={"demo.echo": lambda arguments: arguments})
    guest(f"take()\n{lines}")
    outcome = await sandboxes.execute(job("return 1", tools=("demo.echo",), timeout=1, grace=0.1), host)
    assert told(outcome) == expected
    assert len(outcome.stdout) < 1_000_100


@attack("call a tool that was not granted", "the host makes no call")
async def test_host_checks_the_grant_itself(guest: Callable[[str], None], sandboxes: Sandboxes) -> None:
    host = RecordingHost(tools={"demo.echo": lambda arguments: arguments})
    guest(
        "take()\nsay(frame({'kind': 'call', 'id': 1, 'tool': 'demo.secret'}, b'1'))\n"
        "header, answer = framing.read_frame(HOST_IN)\n"
        "say(frame({'kind': 'result'}, answer), frame({'kind': 'exit', 'status': 0}))"
    )
    outcome = await sandboxes.execute(job("return 1", tools=("demo.echo",)), host)
    assert outcome.result["code"] == "tool_not_granted"
    assert host.calls == []


LEAVES = "frame({'kind': 'exit', 'status': 0, 'artifacts': True})"
DONE = "frame({'kind': 'collected', 'omitted': 0})"


def artifact(path: bytes, size: int | str) -> str:
    return f"frame({{'kind': 'artifact', 'size': {size}}}, {path!r})"


def content(number: int, data: str) -> str:
    return f"frame({{'kind': 'content', 'artifact': {number}}}, {data})"


def complete(number: int) -> str:
    return f"frame({{'kind': 'complete', 'artifact': {number}}})"


def written(place: Path) -> list[str]:
    return [str(file.relative_to(place / "left")) for file in place.rglob("*") if file.is_file()]


async def leave(
    guest: Callable[[str], None], sandboxes: Sandboxes, place: Path, lines: str
) -> tuple[Outcome, dict[str, bytes]]:
    """What a step comes to whose guest says these lines about artifacts, and what of it is kept."""

    def directory() -> Path:
        made = place / "left"
        made.mkdir()
        return made

    guest(f"take()\nsay({RESULT}, {LEAVES})\n{lines}")
    given = replace(job("return 1", artifacts=1000), artifact_directory=directory)
    outcome = await sandboxes.execute(given, RecordingHost())
    assert set(written(place)) <= {"0", "1"}
    return outcome, {file.path: content_of(file) for file in outcome.artifacts}


@attack(
    "announce artifacts wrongly: paths that are absolute, climb, have NUL or control characters, no UTF-8, empty parts; "
    "two of one path, a file that is a directory too; sizes that are none",
    "`failed`, code `channel_violation`; nothing is written",
)
@pytest.mark.parametrize(
    "lines",
    [
        *(
            f"say({artifact(path, 1)}, {content(0, repr(b'1'))}, {complete(0)}, {DONE})"
            for path in (
                *(b"/etc/passwd", b"../up", b"a/../../up", b"a/./b", b"a//b", b"a/", b".", b"..", b"", b"nul\0"),
                *(b"line\n", b"\x1b[31m", b"\xc2\x9b", b"\xff", b"\xed\xa0\x80"),
            )
        ),
        f"say({artifact(b'x', 0)}, {artifact(b'x', 0)})",
        f"say({artifact(b'x', 0)}, {artifact(b'x/y', 0)})",
        f"say({artifact(b'x/y', 0)}, {artifact(b'x', 0)})",
        *(f"say({artifact(b'x', size)})" for size in ("-1", "2**63", "0.5", "None", "'1'")),
        "say(frame({'kind': 'artifact', 'size': 1}, b'x' * 5000))",
    ],
)
async def test_artifact_that_is_none_is_a_violation(
    guest: Callable[[str], None], sandboxes: Sandboxes, tmp_path: Path, lines: str
) -> None:
    outcome, left = await leave(guest, sandboxes, tmp_path, lines)
    assert (told(outcome), left) == (VIOLATION, {})


X, Y = artifact(b"x", 3), artifact(b"y", 3)


@attack(
    "send artifacts out of turn: contents never announced, of the next one, after the end, more than announced; "
    "announcements after contents; an end before all is there; other frames; nothing at all",
    "`failed`, code `channel_violation`; nothing is kept",
)
@pytest.mark.parametrize(
    "lines",
    [
        f"say({content(0, 'bytes(3)')})",
        f"say({X}, {content(1, 'bytes(3)')})",
        f"say({X}, {content(-1, 'bytes(3)')})",
        f"say({X}, {content(0, 'bytes(4)')})",
        f"say({X}, {content(0, 'bytes(3)')}, {content(0, 'bytes(1)')})",
        f"say({X}, {content(0, 'bytes(3)')}, {complete(0)}, {content(0, 'bytes(1)')})",
        f"say({X}, {content(0, 'bytes(3)')}, {complete(0)}, {complete(0)})",
        f"say({X}, {content(0, 'bytes(3)')}, {Y})",
        f"say({X}, {content(0, 'bytes(3)')}, {DONE})",
        f"say({X}, {content(0, repr(b''))})",
        f"say({X}, {content(0, 'bytes(3)')}, {complete(0)})",
        f"say({X}, {content(0, 'bytes(300_000)')})",
        f"say({X}, {RESULT})",
        f"say({X}, {EXIT})",
        f"say({X}, {CALL})",
        "say(frame({'kind': 'collected', 'omitted': -1}))",
        "say(frame({'kind': 'omitted', 'why': 'because'}, b'x'))",
        "for n in range(100): say(frame({'kind': 'omitted', 'why': 'name'}, b'%d' % n))",
        "say(frame({'kind': 'beyond', 'limit': 'all of them', 'size': 1}, b'x'))",
        "say(b'garbage, and more of it')",
        "pass",
    ],
)
async def test_artifact_out_of_turn_is_a_violation(
    guest: Callable[[str], None], sandboxes: Sandboxes, tmp_path: Path, lines: str
) -> None:
    outcome, left = await leave(guest, sandboxes, tmp_path, lines)
    assert (told(outcome), left) == (VIOLATION, {})


@attack(
    "announce a petabyte, a million files, a path of a thousand directories, a long one",
    "`limit_exceeded` by the host's own count, as soon as it is passed",
)
@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (f"say({artifact(b'x', 2**50)})", "artifacts_too_large"),
        (f"say({artifact(b'x', 999)}, {artifact(b'y', 2)})", "artifacts_too_large"),
        ("for n in range(1_000_000): say(frame({'kind': 'artifact', 'size': 0}, b'%d' % n))", "too_many_artifacts"),
        (f"say({artifact(b'd/' * 21 + b'x', 0)})", "artifact_too_deep"),
        (f"say({artifact(b'x' * 1025, 0)})", "artifact_path_too_long"),
    ],
)
async def test_host_counts_artifacts_itself(
    guest: Callable[[str], None], sandboxes: Sandboxes, tmp_path: Path, lines: str, code: str
) -> None:
    outcome, left = await leave(guest, sandboxes, tmp_path, lines)
    assert (told(outcome), left) == ((StepStatus.LIMIT_EXCEEDED, code), {})


@attack("announce more of a file than comes", "left out, with a line that says so; the others are kept")
async def test_artifact_that_is_cut_off_is_left_out(
    guest: Callable[[str], None], sandboxes: Sandboxes, tmp_path: Path
) -> None:
    lines = (
        f"say({X}, {Y}, {content(0, repr(b'12'))}, {complete(0)}, {content(1, repr(b'123'))}, {complete(1)}, {DONE})"
    )
    outcome, left = await leave(guest, sandboxes, tmp_path, lines)
    assert (told(outcome), left) == ((StepStatus.SUCCEEDED, None), {"y": b"123"})
    assert outcome.stderr == "artifacts/x is left out of the artifacts: it changed while it was read\n"


@attack(
    "never end telling of artifacts: hang, or trickle",
    "the sandbox is ended after a while: `failed`, code `artifacts_lost`",
)
@pytest.mark.parametrize(
    "lines",
    [
        "time.sleep(60)",
        f"say({artifact(b'x', 900)})\nwhile True:\n    say({content(0, repr(b'1'))})\n    time.sleep(0.05)",
    ],
)
async def test_artifacts_without_an_end_are_ended(
    guest: Callable[[str], None],
    sandboxes: Sandboxes,
    tmp_path: Path,
    lines: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(artifacts, "PATIENCE", 0.5)
    outcome, left = await leave(guest, sandboxes, tmp_path, lines)
    assert (told(outcome), left) == ((StepStatus.FAILED, "artifacts_lost"), {})


async def test_artifacts_that_nobody_asked_for_are_not_heard(
    guest: Callable[[str], None], sandboxes: Sandboxes
) -> None:
    guest(f"take()\nsay({RESULT}, {LEAVES}, {X})\ntime.sleep(60)")
    outcome = await sandboxes.execute(job("return 1"), RecordingHost())
    assert (told(outcome), outcome.result, outcome.artifacts) == ((StepStatus.SUCCEEDED, None), 1, ())
