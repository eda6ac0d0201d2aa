"""The channel, as a guest may abuse it that tells of artifacts"""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flows.values import StepStatus
from steps.sandbox import artifacts
from steps.sandbox.nsjail import NsjailRunner
from steps.sandbox.pool import Sandboxes
from steps.sandbox.protocol import Outcome
from tests.artifacts import content_of
from tests.sandbox.conftest import RecordingHost, job, told
from tests.sandbox.hostile import CALL, EXIT, RESULT

pytestmark = pytest.mark.only_runner("nsjail")
attack = pytest.mark.attack
VIOLATION = (StepStatus.FAILED, "channel_violation")
LEAVES = "frame({'kind': 'exit', 'status': 0, 'artifacts': True})"
DONE = "frame({'kind': 'collected', 'omitted': 0})"


@pytest.fixture
async def sandboxes() -> AsyncIterator[Sandboxes]:
    """Made anew, for the guest is found when the first sandbox starts."""
    pool = Sandboxes(NsjailRunner())
    yield pool
    await pool.close()


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
