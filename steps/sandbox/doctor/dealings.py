"""Guarantees about what the host takes from a sandbox: output, results and tool calls."""

from dataclasses import replace

from flows.values import StepStatus
from steps.sandbox.doctor.guarantee import LOOK, MODEST, Guarantee, Reading, Trial, broken, held

OTHER_TOOL = "doctor.other"
COUNTED_TOOL = "doctor.counted"

_FORGE = """
import json
def forge(header, body):
    \"\"\"Write a frame past the guest's own functions, to every descriptor that may be its channel.\"\"\"
    head = json.dumps(header).encode()
    for descriptor in range(3, 24):
        try:
            os.write(descriptor, len(head).to_bytes(4, "big") + len(body).to_bytes(4, "big") + head + body)
        except OSError:
            pass
"""

OUTPUT = """
for number in range(3000):
    print("x" * 99)
return "done"
"""


def _read_output(trial: Trial) -> Reading:
    kept, limit = len(trial.ended.stdout), trial.limits.output
    if kept > limit + 200:
        return broken(f"{kept:,} bytes were kept; the limit is {limit:,}")
    if not trial.ended.truncated:
        return broken("output was dropped and not marked")
    return held(f"of 300,000 bytes {limit:,} were kept, and it is told")


RESULT = f"""
{_FORGE}
import time
forge({{"kind": "result"}}, b'"' + b"x" * inputs["size"] + b'"')
time.sleep(3)
return "ordinary"
"""


def _read_result(trial: Trial) -> Reading:
    outcome = trial.ended
    if outcome.status is StepStatus.SUCCEEDED and outcome.result != "ordinary":
        return broken(f"a result of {len(str(outcome.result)):,} bytes passed; the limit is {trial.limits.result:,}")
    if outcome.status is StepStatus.SUCCEEDED:
        return held("what the code forged was not taken for a result")
    return held(f"a forged one above {trial.limits.result:,} bytes ended the sandbox")


TOOLS = f"""
{_FORGE}
forge({{"kind": "call", "id": 900, "tool": inputs["tool"]}}, b"{{}}")
refused = False
try:
    tools.doctor.other()
except Exception:
    refused = True
look()
return refused
"""


def _read_tools(trial: Trial) -> Reading:
    if trial.calls:
        return broken("a call of a tool that the step wasn't granted reached the host")
    if not trial.result:
        return broken("a tool that the step wasn't granted could be called")
    return held("ordinary and forged calls of one were refused")


TOOL_CALLS = """
for number in range(20):
    tools.counted({})
return "never stopped"
"""


def _read_tool_calls(trial: Trial) -> Reading:
    told = f"{len(trial.calls)} of 20 calls were made; the limit is {trial.limits.tool_calls}"
    return held(told) if len(trial.calls) <= trial.limits.tool_calls else broken(told)


_OUTPUT = replace(MODEST, output=20_000)
_RESULT = replace(MODEST, result=20_000)

GUARANTEES = (
    Guarantee(
        id="output",
        subject="channel",
        promise="output beyond its limit is dropped and marked",
        code=OUTPUT,
        limits=_OUTPUT,
        read=_read_output,
        limit="output",
    ),
    Guarantee(
        id="result",
        subject="channel",
        promise="a result beyond its limit is refused, however it is sent",
        code=RESULT,
        limits=_RESULT,
        inputs={"size": 2 * _RESULT.result},
        read=_read_result,
    ),
    Guarantee(
        id="tools",
        subject="channel",
        promise="a tool that a step wasn't granted does not exist for it",
        code=TOOLS,
        inputs={"tool": OTHER_TOOL},
        tools=(LOOK,),
        read=_read_tools,
    ),
    Guarantee(
        id="tool_calls",
        subject="channel",
        promise="a step makes as many tool calls as its limit says",
        code=TOOL_CALLS,
        limits=replace(MODEST, tool_calls=3),
        tools=(COUNTED_TOOL,),
        read=_read_tool_calls,
    ),
)
