"""Output"""

from collections.abc import Iterator

import pytest

from flows.values import StepStatus
from steps.sandbox.limits import MB, Language
from steps.sandbox.output import Output, Stream
from tests.sandbox.conftest import RecordingHost, RunStep, told

attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner
MARK = "[output beyond 1000000 bytes is dropped]\n"


@pytest.mark.both_users
@attack("flood stdout, or stderr", "what is beyond the limit is dropped and marked; the step goes on")
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "for number in range(100_000): print('x' * 100)\nreturn 1"),
        ("python", "import sys\nsys.stderr.write('x' * 5_000_000)\nreturn 1"),
        ("javascript", "for (let n = 0; n < 20000; n++) console.log('x'.repeat(100)); return 1"),
        ("shell", "head -c 5000000 /dev/zero | tr '\\0' x >&2; echo 1 > $RESULT"),
    ],
)
async def test_output_beyond_the_limit_is_dropped_and_marked(run_step: RunStep, language: Language, code: str) -> None:
    outcome = await run_step(code, language)
    assert (told(outcome), outcome.result) == ((StepStatus.SUCCEEDED, None), 1)
    assert outcome.truncated
    text = outcome.stdout + outcome.stderr
    assert text.endswith(MARK)
    assert len(text) < 1_000_100


@attack("flood the log with a million empty lines", "50,000 are kept: a line costs the host more than its bytes")
async def test_lines_beyond_the_limit_are_dropped_and_marked(run_step: RunStep, host: RecordingHost) -> None:
    outcome = await run_step("import os\nos.write(1, b'\\n' * 1_000_000)\nreturn 1", host=host)
    assert outcome.result == 1
    assert outcome.stdout == "\n" * 50_000 + "\n[output beyond 50000 lines is dropped]\n"
    assert len(host.lines) == 50_002


@attack("keep the host busy with what it drops", "the supervisor passes nothing on any more")
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import os\nfor _ in range(640): os.write(1, b'x' * 65536)\nreturn 1"),
        ("javascript", "for (let n = 0; n < 2600; n++) console.log('x'.repeat(16000)); return 1"),
    ],
)
async def test_dropped_output_does_not_reach_the_host(
    run_step: RunStep, language: Language, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = 0
    feed = Output.feed

    def counted(self: Output, stream: Stream, data: bytes) -> Iterator[tuple[Stream, str]]:
        nonlocal arrived
        arrived += len(data)
        return feed(self, stream, data)

    monkeypatch.setattr(Output, "feed", counted)
    outcome = await run_step(code, language)
    assert (outcome.result, outcome.truncated) == (1, True)
    # What was under way when the host had enough; the code wrote 42 MB.
    assert MB < arrived < 10 * MB


@attack("flood stdout and stderr from 60 processes at once", "`timed_out`; what is kept is within the limit")
async def test_flood_from_many_processes_is_contained(run_step: RunStep) -> None:
    code = """
import os
for _process in range(59):
    if os.fork() == 0: break
while True:
    os.write(1, b"out" * 1000)
    os.write(2, b"err" * 1000)
"""
    outcome = await run_step(code, timeout=1, grace=0.2)
    assert told(outcome) == (StepStatus.TIMED_OUT, "timed_out")
    assert outcome.truncated
    assert len(outcome.stdout) + len(outcome.stderr) < 1_000_100


@attack("go on writing while it is killed, with full pipes", "`timed_out`; the last line is whole or marked")
async def test_output_while_being_killed_is_kept(run_step: RunStep) -> None:
    code = "trap '' TERM; echo begin; while :; do echo line; done"
    outcome = await run_step(code, "shell", timeout=0.4, grace=0.3, output=100 * MB)
    assert told(outcome) == (StepStatus.TIMED_OUT, "timed_out")
    assert outcome.stdout.startswith("begin\nline\n")
    assert set(outcome.stdout.splitlines()[1:-1]) == {"line"}


@attack("one endless line", "it is cut into lines of 16,384 characters")
async def test_endless_line_is_cut_into_lines(run_step: RunStep, host: RecordingHost) -> None:
    await run_step("print('x' * 40_000, end='')", host=host)
    assert [len(line) for _stream, line in host.lines] == [16_384, 16_384, 40_000 - 2 * 16_384]


@attack("output that is no UTF-8, characters cut in two", "`U+FFFD` for what is none")
async def test_invalid_utf8_is_replaced(run_step: RunStep, host: RecordingHost) -> None:
    outcome = await run_step("printf 'a\\xffb\\n\\xe2\\x82' >&2; sleep 0.05; printf '\\xac\\n' >&2", "shell", host=host)
    assert host.lines == [("stderr", "a\ufffdb"), ("stderr", "€")]
    assert outcome.stderr == "a\ufffdb\n€\n"
