"""The channel between code, supervisor and host, as code may abuse it"""

import pytest

from flows.values import Json, StepStatus
from steps.sandbox.limits import Language
from tests.sandbox.conftest import RecordingHost, RunStep, told
from tests.sandbox.snippets import FORGE

VIOLATION = (StepStatus.FAILED, "channel_violation")
attack = pytest.mark.attack
pytestmark = pytest.mark.every_runner


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost(tools={"demo.echo": lambda arguments: arguments})


@attack("print a frame", "it is output and nothing else")
@pytest.mark.parametrize("language", ["python", "javascript", "shell"])
async def test_forged_frame_is_output_and_nothing_else(run_step: RunStep, language: Language) -> None:
    frame = '\\x00\\x00\\x00\\x15\\x00\\x00\\x00\\x01{"kind":"result","x":1}2'
    code = {
        "python": f"import os\nos.write(1, b'{frame}')\nreturn 1",
        "javascript": f"console.log('{frame}'); return 1",
        "shell": f"printf '{frame}'; echo 1 > $RESULT",
    }
    outcome = await run_step(code[language], language)
    assert outcome.result == 1


@pytest.mark.both_users
@attack(
    "write to the code's own channel: garbage, a giant frame, frames that only the supervisor may send, headers of "
    "wrong types, with NaN, half a surrogate pair, 60,000 brackets",
    "`failed`, code `channel_violation`",
)
@pytest.mark.parametrize(
    "data",
    [
        "b'\\xff' * 64",
        "frame({'kind': 'call'}, head=2**32 - 1)",
        "frame({'kind': 'call'}, body=2**32 - 1)",
        "frame({'kind': 'exit', 'status': 0})",
        "frame({'kind': 'ready'})",
        "frame({'kind': 'taken'})",
        "frame({'kind': 'log', 'stream': 'stdout'}, b'forged')",
        "frame({'kind': 'job'})",
        "frame({'kind': ['call']})",
        "frame({'kind': None})",
        "frame({})",
        "frame(b'[]')",
        "frame(b'no json')",
        "frame(b'[' * 60_000)",
        'frame(b\'{"kind": "call", "id": NaN, "tool": "demo.echo"}\', b\'1\')',
        'frame(b\'{"kind": "result", "more": 1e999}\', b\'1\')',
        "frame({'kind': 'call', 'id': 1, 'tool': '\\ud800'}, b'1')",
        "frame({'kind': 'call', 'id': 1, 'tool': 5}, b'1')",
        "frame({'kind': 'call', 'id': -1, 'tool': 'demo.echo'}, b'1')",
        "frame({'kind': 'call', 'id': 2**40, 'tool': 'demo.echo'}, b'1')",
        "frame({'kind': 'call', 'id': 1, 'tool': 'x' * 201}, b'1')",
        "frame({'kind': 'call', 'tool': 'demo.echo'}, b'1')",
        "frame({'kind': 'call', 'id': 1, 'tool': 'demo.echo'}, b'1' * 9_000_000)",
        "frame({'kind': 'result'}, b'1' * 1_100_000)",
        "frame({'kind': 'error'}, b'1' * 300_000)",
    ],
)
async def test_code_that_breaks_its_channel_fails(run_step: RunStep, host: RecordingHost, data: str) -> None:
    outcome = await run_step(f"{FORGE}\nforge({data})\nimport time\ntime.sleep(60)", host=host)
    assert told(outcome) == VIOLATION
    assert host.calls == []


@attack("send half a frame and end, or one byte at a time", "`no_result`; the frame counts once it is whole")
async def test_truncated_frame_is_none_and_a_slow_one_is_one(run_step: RunStep) -> None:
    half = f"{FORGE}\nforge(frame({{'kind': 'result'}}, b'123')[:-1])\nos._exit(0)"
    assert told(await run_step(half)) == (StepStatus.FAILED, "no_result")
    slow = f"{FORGE}\nimport time\nfor byte in frame({{'kind': 'result'}}, b'123'):\n    forge(bytes((byte,)))\n    time.sleep(0.002)\nos._exit(0)"
    assert (await run_step(slow)).result == 123


@attack("send a second result, or an error after the result", "the first one counts")
@pytest.mark.parametrize("kind", ["result", "error"])
async def test_second_result_is_ignored(run_step: RunStep, kind: str) -> None:
    code = f"{FORGE}\nforge(frame({{'kind': 'result'}}, b'\"first\"') + frame({{'kind': '{kind}'}}, b'{{}}'))\nreturn 'third'"
    outcome = await run_step(code)
    assert (outcome.result, outcome.error) == ("first", None)


@attack("send a result that is no JSON, or not the kind of JSON that is allowed", "`failed`, code `result_not_json`")
@pytest.mark.parametrize(
    "data", ["", "no json", "[NaN]", "1e999", '"\\ud800"', "[" * 1000, "9007199254740992", "{1: 2}"]
)
async def test_forged_result_is_checked(run_step: RunStep, data: str) -> None:
    code = f"{FORGE}\nforge(frame({{'kind': 'result'}}, inputs['data'].encode()))\nos._exit(0)"
    outcome = await run_step(code, inputs={"data": data})
    assert told(outcome) == (StepStatus.FAILED, "result_not_json")


@attack(
    "send an error whose fields lie: status codes, lines, types, 200 KB of text",
    "`failed`; what doesn't fit is left out",
)
async def test_forged_error_is_checked(run_step: RunStep) -> None:
    lies: dict[str, Json] = {"code": "Not A Code", "message": 5, "line": -3, "traceback": ["x"], "fix": "f" * 200_000}
    outcome = await run_step(
        f"{FORGE}\nforge(frame({{'kind': 'error'}}, json.dumps(inputs).encode()))\nos._exit(0)", inputs=lies
    )
    assert told(outcome) == (StepStatus.FAILED, "exception")
    assert outcome.error is not None
    assert (outcome.error.message, outcome.error.line, outcome.error.traceback) == ("the code failed", None, None)


@attack("claim to be timed out, killed, cancelled or lost", "`failed`: statuses are what the host observes")
@pytest.mark.parametrize("code", ["timed_out", "killed", "sandbox_lost", "cancelled", "succeeded"])
async def test_forged_status_is_a_failure(run_step: RunStep, code: str) -> None:
    outcome = await run_step(f"{FORGE}\nforge(frame({{'kind': 'error'}}, b'{{\"code\": \"{code}\"}}'))\nos._exit(0)")
    assert outcome.status is StepStatus.FAILED


@pytest.mark.both_users
@attack(
    "call a tool that was not granted: by the channel, by objects found through `gc`, by a forged frame",
    "`tool_not_granted`; the host makes no call",
)
@pytest.mark.parametrize(
    "code",
    [
        "return tools.echo._channel.call('demo.secret', {})",
        "import gc\nchannel = next(one for one in gc.get_objects() if type(one).__name__ == 'Channel')\nreturn channel.call('demo.secret', {})",
        "tools.echo._name = 'demo.secret'\nreturn tools.echo()",
        "tools._granted.append('demo.secret')\nreturn tools.secret()",
    ],
)
async def test_call_forged_past_the_tools_object_is_refused_on_the_host(
    run_step: RunStep, host: RecordingHost, code: str
) -> None:
    code = code.replace(
        "tools.echo._name = 'demo.secret'\nreturn tools.echo()",
        "echo = tools.echo\necho._name = 'demo.secret'\nreturn echo()",
    )
    outcome = await run_step(code, host=host)
    assert told(outcome) == (StepStatus.FAILED, "tool_not_granted")
    assert host.calls == []


@attack(
    "forge calls of the command `tool` on its socket: ungranted, no JSON, never ending, 100 at once",
    "refused or cut off; others are answered",
)
async def test_socket_of_the_tool_command_bears_abuse(run_step: RunStep, host: RecordingHost) -> None:
    code = f"""cat > abuse.py <<'END'
{FORGE}
import socket
def line(data=b""):
    made = socket.socket(socket.AF_UNIX)
    made.connect("\\0stepbox")
    made.sendall(data)
    return made
def reply(data):
    with line(data) as open_line: return open_line.makefile("rb").read().decode(errors="replace")
print("tool_not_granted" in reply(frame({{"tool": "demo.secret"}}, b"1")))
print("arguments_not_json" in reply(frame({{"tool": "demo.echo"}}, b"no json")))
print(reply(frame({{"tool": 5}}, b"1")).count("tool_not_granted"), repr(reply(b"\\xff" * 64)))
silent = [line(b"x") for _line in range(40)]
print(json.loads(reply(frame({{"tool": "demo.echo"}}, b"[1]"))[-3:]))
END
python3 abuse.py
"""
    outcome = await run_step(code, "shell", host=host)
    assert outcome.stdout.splitlines() == ["True", "True", "1 ''", "[1]"]
    assert host.calls == [("demo.echo", [1])]


@attack("make calls with one id, and never read the answers", "each is made once; the step ends as ever")
async def test_answers_that_nobody_reads_block_nobody(run_step: RunStep) -> None:
    host = RecordingHost(tools={"demo.big": lambda _given: "x" * 1_000_000})
    code = f"{FORGE}\nfor _call in range(20): forge(frame({{'kind': 'call', 'id': 7, 'tool': 'demo.big'}}, b'1'))\nimport time\ntime.sleep(0.3)\nreturn 1"
    outcome = await run_step(code, host=host)
    assert (outcome.result, outcome.tool_calls, len(host.calls)) == (1, 20, 20)


@attack("call a tool after the end: from a child that lives on, after the result, after an error", "no call is made")
@pytest.mark.parametrize("end", ["return 1", "raise ValueError('x')"])
async def test_call_after_the_end_is_not_made(run_step: RunStep, host: RecordingHost, end: str) -> None:
    code = f"""{FORGE}
import time
parent = os.getpid()
if os.fork() == 0:
    while os.getppid() == parent: time.sleep(0.001)
    while True: forge(frame({{"kind": "call", "id": 1, "tool": "demo.echo"}}, b"1"))
{end}
"""
    outcome = await run_step(code, host=host)
    assert outcome.status in (StepStatus.SUCCEEDED, StepStatus.FAILED)
    assert (outcome.tool_calls, host.calls) == (0, [])
