"""From what the host observed of a job to its outcome."""

import json
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace

from flows.contracts import Isolation, StepError
from flows.values import Json, StepStatus, json_size
from steps.sandbox.conversation import Conversation
from steps.sandbox.protocol import Job, Outcome
from steps.sandbox.values import NotJsonError, decode

_STATUS_OF_CODE = {
    "out_of_memory": StepStatus.OUT_OF_MEMORY,
    "result_too_large": StepStatus.LIMIT_EXCEEDED,
    "too_many_tool_calls": StepStatus.LIMIT_EXCEEDED,
}
_NO_NETWORK = re.compile(
    "could not resolve host|failure in name resolution|name or service not known|network is unreachable", re.IGNORECASE
)
"""How curl, git and the C library say that nothing can be reached."""
_REFUSED_BY_PROXY = re.compile(r"proxy|CONNECT tunnel|\b(?:400|403|429|502)\b", re.IGNORECASE)
"""How they say that their proxy didn't make a request."""
_CODE = re.compile(r"[a-z][a-z0-9_.]{0,63}\Z")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What the host measured itself. Times in seconds, memory in bytes."""

    isolation: Isolation
    duration: float
    timed_out: bool = False
    out_of_memory: bool = False
    peak_memory: int | None = None
    cpu_time: float | None = None
    engine_lost: bool = False
    """Whether the sandbox was lost together with the Docker Engine that held it."""
    image: str | None = None
    """The image that the job ran in, by digest."""


def outcome(job: Job, said: Conversation, seen: Observation) -> Outcome:
    """The outcome of a job that ran to its end, was ended, or lost its sandbox."""
    status, result, error = _judge(job, said, seen)
    collected = said.collected
    notes: list[str] = []
    if collected is not None:
        notes += collected.notes
        if collected.error is not None and status is StepStatus.SUCCEEDED:
            (status, error), result = collected.error, None
        elif collected.error is not None:
            notes.append(f"no artifacts are kept: {collected.error[1].message}")
    return Outcome(
        status=status,
        result=result,
        error=error,
        isolation=seen.isolation,
        duration=seen.duration,
        stdout=said.output.text("stdout"),
        stderr=_with_notes(said.output.text("stderr"), notes),
        truncated=said.output.truncated,
        exit_status=_exit_status(said.wait_status),
        peak_memory=seen.peak_memory,
        cpu_time=seen.cpu_time,
        tool_calls=said.tool_calls,
        egress=said.requests,
        image=seen.image,
        artifacts=collected.files if collected is not None else (),
    )


def _with_notes(text: str, notes: Sequence[str]) -> str:
    """Output of the code with lines of ours behind it."""
    begun = "\n" if notes and text and not text.endswith("\n") else ""
    return text + begun + "".join(f"{note}\n" for note in notes)


Judgement = tuple[StepStatus, Json, StepError | None]


def _judge(job: Job, said: Conversation, seen: Observation) -> Judgement:  # noqa: PLR0911 - in order of precedence
    if seen.out_of_memory:
        return StepStatus.OUT_OF_MEMORY, None, _out_of_memory(job)
    if seen.timed_out:
        return (
            StepStatus.TIMED_OUT,
            None,
            StepError(
                code="timed_out",
                message=f"the code ran longer than its timeout of {job.limits.timeout:g} s",
                fix="raise limits.timeout, or do less in one step",
            ),
        )
    if seen.engine_lost:
        return (
            StepStatus.FAILED,
            None,
            StepError(
                code="engine_lost",
                message="the Docker Engine went away while the code ran",
                fix="see that it runs; with `retry`, the step is tried again",
            ),
        )
    if said.exceeded is not None:
        return StepStatus.LIMIT_EXCEEDED, None, said.exceeded
    if said.violation is not None:
        return (
            StepStatus.FAILED,
            None,
            StepError(code="channel_violation", message=f"the sandbox broke the protocol: {said.violation}"),
        )
    if said.result is not None:
        return _returned(said.result)
    if said.failure is not None:
        error = _told(said.failure)
        if job.language == "shell" and said.wait_status and error.code == "exit_status":
            status, result, ended = _ended(job, said)
            return status, result, replace(ended, line=ended.line or error.line) if ended else None
        status = _STATUS_OF_CODE.get(error.code, StepStatus.FAILED)
        return status, None, _out_of_memory(job, error) if status is StepStatus.OUT_OF_MEMORY else error
    return _ended(job, said)


def _ended(job: Job, said: Conversation) -> Judgement:  # noqa: PLR0911 - one return a way to end
    """The code ended without a word of its own."""
    if said.wait_status is None:
        return (
            StepStatus.KILLED,
            None,
            StepError(code="sandbox_lost", message="the sandbox was ended from outside while the code ran"),
        )
    if os.WIFSIGNALED(said.wait_status):
        number = os.WTERMSIG(said.wait_status)
        if number == signal.SIGKILL:
            return StepStatus.KILLED, None, StepError(code="killed", message="the code's process was killed (SIGKILL)")
        if job.language == "javascript" and "out of memory" in said.output.text("stderr"):
            return StepStatus.OUT_OF_MEMORY, None, _out_of_memory(job)
        return (
            StepStatus.FAILED,
            None,
            StepError(code="signal", message=f"the code's process ended by {_signal_name(number)}"),
        )
    number = os.WEXITSTATUS(said.wait_status)
    if job.language == "shell" and number == 0:
        return _shell_output(job, said)
    if number == 0:
        message = "the code ended its process before it returned"
        return StepStatus.FAILED, None, StepError(code="no_result", message=message, fix="use return to give a result")
    return StepStatus.FAILED, None, _exit_error(number, job, said)


def _shell_output(job: Job, said: Conversation) -> tuple[StepStatus, Json, StepError | None]:
    text = said.output.text("stdout").strip()
    if said.output.truncated or json_size(text) > job.limits.result:
        return (
            StepStatus.LIMIT_EXCEEDED,
            None,
            StepError(
                code="result_too_large",
                message="the script's output is its result, and larger than a result or the output may be",
                fix="write large results to a file in $ARTIFACTS, and a short one to $RESULT",
            ),
        )
    return StepStatus.SUCCEEDED, text, None


def _exit_error(number: int, job: Job, said: Conversation) -> StepError:
    lines = said.output.text("stderr").strip().splitlines()
    message = f"exit status {number}" + (f": {lines[-1][:1000]}" if lines else "")
    found = re.match(rf"{re.escape(job.filename)}: line (\d+):", lines[-1]) if lines else None
    fix = None
    code = "exit_status"
    if lines and "No space left on device" in lines[-1]:
        code, fix = "disk_full", "raise limits.disk, or write less"
    elif lines and _NO_NETWORK.search(lines[-1]):
        fix = 'network is none for this step; declare `network: {allow: ["HOST"]}`'
        if job.network is not None:
            fix = "only HTTP and HTTPS through the proxy leave this step: let the client use HTTPS_PROXY"
    elif lines and said.not_made is not None and _REFUSED_BY_PROXY.search(lines[-1]):
        fix = said.not_made
    return StepError(code=code, message=message, line=int(found[1]) if found else None, fix=fix)


def _returned(data: bytes) -> tuple[StepStatus, Json, StepError | None]:
    try:
        return StepStatus.SUCCEEDED, decode(data, "result"), None
    except NotJsonError as error:
        return StepStatus.FAILED, None, StepError(code="result_not_json", message=str(error))


def _told(data: bytes) -> StepError:
    """The error that the code told, every field checked."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        return StepError(code="exception", message="the code failed, and what it told about it is not readable")
    code, line = told.get("code"), told.get("line")
    fix = _text(told, "fix")
    if code == "disk_full":
        fix = "raise limits.disk, or write less"
    return StepError(
        code=code if isinstance(code, str) and _CODE.match(code) else "exception",
        message=_text(told, "message") or "the code failed",
        line=line if isinstance(line, int) and not isinstance(line, bool) and 0 < line < 2**31 else None,
        traceback=_text(told, "traceback"),
        fix=fix,
    )


def _text(told: dict[str, Json], key: str) -> str | None:
    value = told.get(key)
    return value.encode(errors="replace").decode() if isinstance(value, str) and value else None


def _out_of_memory(job: Job, told: StepError | None = None) -> StepError:
    return StepError(
        code="out_of_memory",
        message=f"the code needed more than its {job.limits.memory / 1e6:g} MB of memory",
        line=told.line if told else None,
        traceback=told.traceback if told else None,
        fix="raise limits.memory, or work on smaller pieces",
    )


def _exit_status(wait_status: int | None) -> int | None:
    if wait_status is None:
        return None
    code = os.waitstatus_to_exitcode(wait_status)
    return 128 - code if code < 0 else code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
