"""The channel, as a supervisor may abuse it that the code has taken over"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from flows.errors import RefusedError
from flows.values import StepStatus
from steps.sandbox import nsjail
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from tests.sandbox.conftest import RecordingHost, job, told, until
from tests.sandbox.hostile import CALL, EXIT, RESULT

pytestmark = pytest.mark.only_runner("nsjail")
attack = pytest.mark.attack
VIOLATION = (StepStatus.FAILED, "channel_violation")


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
