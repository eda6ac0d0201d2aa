"""What code finds in each language, and how its errors read."""

import asyncio

import pytest
from deno import find_deno_bin  # type: ignore[import-untyped] # the package has no types

from flows.values import Json, StepStatus
from steps.sandbox.limits import Language
from tests.sandbox.conftest import RecordingHost, RunStep


@pytest.mark.every_runner
@pytest.mark.both_users
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "return inputs['a'] + len(inputs['b'])"),
        ("python", "def main(a, b):\n    return a + len(b)"),
        ("python", "async def main(a, b):\n    return a + len(b)"),
        ("javascript", "return inputs.a + inputs.b.length"),
        ("javascript", "async function main({ a, b }) { return a + b.length; }"),
        (
            "javascript",
            "const add = <T extends number>(x: T, y: T): number => x + y; return add(inputs.a, inputs.b.length);",
        ),
        ("shell", "echo $((INPUT_A + $(jq '.b | length' $INPUTS))) > $RESULT"),
    ],
)
async def test_inputs_reach_the_code(run_step: RunStep, language: Language, code: str) -> None:
    outcome = await run_step(code, language, inputs={"a": 1, "b": ["x", "y"]})
    assert (outcome.result, outcome.error) == (3, None)


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code", "line", "message", "frames"),
    [
        (
            "python",
            "x = 1\ndef f():\n    raise ValueError('no')\nf()",
            3,
            "ValueError: no",
            ["line 4, in <step>", "line 3, in f", "    raise ValueError('no')"],
        ),
        ("python", "def main():\n\n    return 1 / 0", 3, "ZeroDivisionError: division by zero", ["line 3, in main"]),
        ("python", "x = 1\nimport json\njson.loads('{')", 3, "JSONDecodeError", ["line 3, in <step>"]),
        ("python", "x = 1\ny = (", 2, "SyntaxError: '(' was never closed", []),
        ("python", "\nimport nothing_there", 2, "ModuleNotFoundError", []),
        (
            "javascript",
            "const x = 1;\nfunction f() { null.foo; }\nf();",
            2,
            "TypeError: Cannot read",
            ["at f (step.ts:2:21)"],
        ),
        (
            "javascript",
            "interface A { b: number }\nconst a: A = { b: 1 };\nthrow new RangeError('no');",
            3,
            "RangeError: no",
            [],
        ),
        ("javascript", "const a = 1;\nconst b = ;", 2, "SyntaxError", []),
        ("javascript", "\nPromise.reject(new Error('unseen'));\nawait new Promise(() => {});", 2, "Error: unseen", []),
        ("shell", "x=1\nfalse\necho never", 2, "exit status 1", []),
        ("shell", "x=1\n\nnothing_there", 3, "exit status 127: step: line 3: nothing_there: command not found", []),
    ],
)
async def test_error_names_the_users_own_line(  # noqa: PLR0917 - one argument a parameter
    run_step: RunStep, language: Language, code: str, line: int, message: str, frames: list[str]
) -> None:
    outcome = await run_step(code, language)
    assert outcome.status is StepStatus.FAILED
    assert outcome.error is not None
    assert outcome.error.line == line
    assert message in outcome.error.message
    text = outcome.error.traceback or ""
    assert all(frame in text for frame in frames)
    assert "/opt/" not in text


@pytest.mark.parametrize(
    ("code", "message", "place"),
    [
        ("return 1 +", "SyntaxError: Expression expected, at the end of the code", (1, 11)),
        ("const a = 1;\nreturn (\n  a\n\n", "SyntaxError: Expected ',', at the end of the code", (3, 4)),
        ("function f() {", "SyntaxError: Expected '}', at the end of the code", (1, 15)),
        ("return 1;\n}", "SyntaxError: Expression expected, at the end of the code", (2, 2)),
        ("const s = `abc", "SyntaxError: Unterminated template", (1, 11)),
        ("let a = 1; let a = 2;", "SyntaxError: Identifier 'a' has already been declared", (1, 16)),
        ("const a = 1;\nconst b = ;", "SyntaxError: Expression expected", (2, 11)),
    ],
)
async def test_javascript_syntax_error_shows_the_users_code_and_nothing_of_ours(
    run_step: RunStep, code: str, message: str, place: tuple[int, int]
) -> None:
    error = (await run_step(code, "javascript")).error
    assert error is not None
    assert (error.code, error.message, error.line) == ("syntax_error", message, place[0])
    line, column = place
    margin = f"{line} | "
    source = code.split("\n")[line - 1]
    mark = " " * (len(margin) + column - 1) + "^"
    assert error.traceback == f"{message}\n{margin}{source}\n{mark}\n    at step.ts:{line}:{column}"


async def test_javascript_error_on_the_first_line_has_the_users_own_column(run_step: RunStep) -> None:
    error = (await run_step("const f = () => null.a; f();", "javascript")).error
    assert error is not None
    assert "at f (step.ts:1:22)" in (error.traceback or "")


BIG = 99_999_999_999_999_999_999


@pytest.mark.every_runner
@pytest.mark.both_users
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "return [str(inputs['n']), str(inputs['deep'][0]['n']), inputs['small'] + 1, str(tools.big())]"),
        (
            "javascript",
            "const { n, deep, small } = inputs; return [`${n}`, `${deep[0].n}`, small + 1, `${await tools.big()}`];",
        ),
        (
            "shell",
            (
                'deep=$(grep -o \'"deep": \\[{"n": [0-9]*\' $INPUTS | grep -o "[0-9]*$")\n'
                'printf \'["%s","%s",%s,"%s"]\' "$INPUT_N" "$deep" $((INPUT_SMALL + 1)) "$(tool big)" > $RESULT'
            ),
        ),
    ],
)
async def test_large_integer_reaches_the_code_exactly(run_step: RunStep, language: Language, code: str) -> None:
    host = RecordingHost(tools={"demo.big": lambda _arguments: -BIG})
    inputs: dict[str, Json] = {"n": BIG, "deep": [{"n": BIG}], "small": 2**53 - 2}
    outcome = await run_step(code, language, inputs=inputs, host=host)
    assert (outcome.result, outcome.error) == ([str(BIG), str(BIG), 2**53 - 1, str(-BIG)], None)


async def test_javascript_gets_only_large_integers_as_bigint(run_step: RunStep) -> None:
    values: list[Json] = [2**53 - 1, 1 - 2**53, 2**53, -(2**53), 1e300, 1234567890.1234567890, "9" * 30, True, None]
    outcome = await run_step(
        "return inputs.values.map((value) => typeof value)", "javascript", inputs={"values": values}
    )
    expected = ["number", "number", "bigint", "bigint", "number", "number", "string", "boolean", "object"]
    assert outcome.result == expected


async def test_exception_printed_by_the_code_shows_its_source(run_step: RunStep) -> None:
    outcome = await run_step("import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()")
    assert 'File "step.py", line 3' in outcome.stderr
    assert "    1 / 0" in outcome.stderr


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("code", "status", "exit_status"),
    [
        ("import sys; sys.exit()", StepStatus.SUCCEEDED, 0),
        ("import sys; sys.exit(3)", StepStatus.FAILED, 3),
        ("import os; os._exit(4)", StepStatus.FAILED, 4),
        ("import os; os._exit(0)", StepStatus.FAILED, 0),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", StepStatus.FAILED, 139),
    ],
)
async def test_python_exit_is_reported(run_step: RunStep, code: str, status: StepStatus, exit_status: int) -> None:
    outcome = await run_step(code)
    assert (outcome.status, outcome.exit_status) == (status, exit_status)


async def test_python_that_exits_with_a_text_fails_with_it(run_step: RunStep) -> None:
    outcome = await run_step("import sys\nsys.exit('2 of 7 checks failed')")
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == ("exit_status", "2 of 7 checks failed")
    assert (outcome.exit_status, outcome.stderr) == (1, "")
    silent = await run_step("import sys\nsys.exit('')")
    assert silent.error is not None
    assert silent.error.message == "the code exited with status 1"


@pytest.mark.every_runner
@pytest.mark.both_users
async def test_python_steps_have_their_packages(run_step: RunStep) -> None:
    code = "import requests, pandas, numpy, httpx, yaml\nreturn float(pandas.DataFrame(inputs['rows'])['x'].sum())"
    outcome = await run_step(code, inputs={"rows": [{"x": 1}, {"x": 2.5}]})
    assert outcome.result == 3.5


@pytest.mark.every_runner
@pytest.mark.both_users
async def test_programs_of_the_step_have_the_packages_too(run_step: RunStep) -> None:
    outcome = await run_step("python3 -c 'import pandas; print(pandas.__name__)'", "shell")
    assert outcome.result == "pandas"


@pytest.mark.every_runner
async def test_engine_packages_are_not_there(run_step: RunStep) -> None:
    outcome = await run_step("import prefect")
    assert outcome.error is not None
    assert outcome.error.message == "ModuleNotFoundError: No module named 'prefect'"


@pytest.mark.every_runner
@pytest.mark.parametrize(
    "command", ["curl --version", "jq --version", "grep --version", "sort --version", "awk 1 /dev/null"]
)
async def test_shell_has_the_usual_commands(run_step: RunStep, command: str) -> None:
    outcome = await run_step(command, "shell")
    assert outcome.status is StepStatus.SUCCEEDED


@pytest.mark.every_runner
async def test_shell_finds_its_values(run_step: RunStep) -> None:
    inputs = {"plain": "a b", "with-dash": True, "none": None, "number": 1.5, "list": [1]}
    outcome = await run_step(
        'echo "$INPUT_PLAIN|$INPUT_WITH_DASH|$INPUT_NONE|$INPUT_NUMBER|${INPUT_LIST-unset}"', "shell", inputs=inputs
    )
    assert outcome.result == "a b|true||1.5|unset"


async def test_shell_gets_values_as_data_and_never_as_code(run_step: RunStep) -> None:
    outcome = await run_step('echo "$INPUT_X"', "shell", inputs={"x": "$(id); `id`; \" ' \\"})
    assert outcome.result == "$(id); `id`; \" ' \\"


GONE = [
    "Deno",
    "process",
    "require",
    "Buffer",
    "global",
    "setTimeout",
    "setInterval",
    "setImmediate",
    "Worker",
    "WebSocket",
    "localStorage",
    "navigator",
    "location",
    "prompt",
    "WebAssembly",
    "BroadcastChannel",
    "EventSource",
    "GPU",
    "window",
    "self",
]


@pytest.mark.every_runner
async def test_javascript_globals_are_gone(run_step: RunStep) -> None:
    found = ", ".join(f"typeof {name} !== 'undefined' || '{name}' in globalThis" for name in GONE)
    outcome = await run_step(f"return [{found}]", "javascript")
    assert outcome.result == [False] * len(GONE)


@pytest.mark.parametrize(
    "code",
    [
        "await import('node:fs')",
        "await import('fs')",
        "await import('npm:chalk')",
        "await import('jsr:@std/fs')",
        "await import('https://example.com/x.js')",
        "await import('file:///etc/passwd')",
        "await import('./step.js')",
        "await eval('import(\"node:process\")')",
        "await new Function('return import(\"node:os\")')()",
    ],
)
async def test_javascript_import_is_refused(run_step: RunStep, code: str) -> None:
    outcome = await run_step(code, "javascript")
    assert outcome.error is not None
    assert outcome.error.code == "import_refused"


async def test_javascript_static_import_is_refused_with_the_reason(run_step: RunStep) -> None:
    outcome = await run_step("import fs from 'node:fs';\nreturn 1;", "javascript")
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.line) == ("syntax_error", 1)
    assert "can't import" in (outcome.error.fix or "")


@pytest.mark.parametrize("inner", ["import fs from 'node:fs'", "export * from 'file:///etc/passwd'"])
async def test_javascript_that_is_imported_as_text_gets_no_more_than_the_code(run_step: RunStep, inner: str) -> None:
    refused = await run_step(f'await import("data:text/javascript,{inner}")', "javascript")
    assert refused.error is not None
    assert refused.error.code == "import_refused"
    globals_ = "export default [typeof Deno, typeof process, typeof setTimeout, typeof WebAssembly]"
    outcome = await run_step(f'return (await import("data:text/javascript,{globals_}")).default', "javascript")
    assert outcome.result == ["undefined"] * 4


@pytest.mark.parametrize("module", ["AGFzbQEAAAABBQFgAAF/AwIBAAcFAQFmAAAKBgEEAEEqCw==", "AGFzbQEAAAAFAwEAAQcFAQFtAgA="])
async def test_javascript_can_not_import_webassembly(run_step: RunStep, module: str) -> None:
    outcome = await run_step(f'await import("data:application/wasm;base64,{module}")', "javascript")
    assert outcome.status is StepStatus.FAILED
    assert outcome.error is not None
    assert "wasm" in outcome.error.message.lower()


async def test_every_node_module_of_this_deno_is_refused(run_step: RunStep) -> None:
    listing = "import { builtinModules } from 'node:module'; console.log(JSON.stringify(builtinModules))"
    process = await asyncio.create_subprocess_exec(find_deno_bin(), "eval", listing, stdout=asyncio.subprocess.PIPE)
    names, _ = await process.communicate()
    code = """
const got = [];
for (const name of JSON.parse(inputs.names)) {
  try { await import('node:' + name.replace(/^node:/, '')); got.push(name); } catch {}
}
return got;
"""
    outcome = await run_step(code, "javascript", inputs={"names": names.decode()})
    assert outcome.result == []


async def test_javascript_promise_that_never_settles_is_told(run_step: RunStep) -> None:
    outcome = await run_step("await new Promise(() => {})", "javascript")
    assert outcome.error is not None
    assert outcome.error.code == "never_settled"


async def test_javascript_fetch_is_blocked(run_step: RunStep) -> None:
    outcome = await run_step("await fetch('https://example.com')", "javascript")
    assert outcome.error is not None
    assert outcome.error.code == "network_blocked"


@pytest.mark.every_runner
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import sys\nprint('out')\nprint('err', file=sys.stderr)"),
        ("javascript", "console.log('out'); console.error('err')"),
        ("shell", "echo out; echo err >&2"),
    ],
)
async def test_output_goes_to_its_stream(run_step: RunStep, language: Language, code: str) -> None:
    host = RecordingHost()
    outcome = await run_step(code, language, host=host)
    assert (outcome.stdout, outcome.stderr) == ("out\n", "err\n")
    assert sorted(host.lines) == [("stderr", "err"), ("stdout", "out")]


@pytest.mark.every_runner
@pytest.mark.both_users
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "print('first')\ntools.gate()\nprint('second')"),
        ("javascript", "console.log('first'); await tools.gate({}); console.log('second')"),
        ("shell", "echo first; tool gate; echo second"),
    ],
)
async def test_lines_come_while_the_code_runs(run_step: RunStep, language: Language, code: str) -> None:
    host = RecordingHost(tools={"demo.gate": lambda _arguments: None})
    seen: list[list[tuple[str, str]]] = []
    arrived = asyncio.Event()
    log, call_tool = host.log, host.call_tool

    async def logged(stream: str, line: str) -> None:
        await log(stream, line)  # type: ignore[arg-type]
        arrived.set()

    async def waited(name: str, arguments: object) -> object:
        async with asyncio.timeout(10):
            await arrived.wait()
        seen.append(list(host.lines))
        return await call_tool(name, arguments)

    host.log, host.call_tool = logged, waited  # type: ignore[method-assign]
    outcome = await run_step(code, language, host=host)
    assert seen == [[("stdout", "first")]]
    assert outcome.stdout.startswith("first\n")
