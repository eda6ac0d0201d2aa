"""Results: the same in each language, or a typed error that names the path"""

import pytest

from flows.values import Json, StepStatus
from steps.sandbox.limits import Language
from tests.sandbox.conftest import RunStep, told

attack = pytest.mark.attack


@pytest.mark.parametrize(
    ("language", "code", "result"),
    [
        ("python", "return {'a': [1, 2.5, True, None, 'ä']}", {"a": [1, 2.5, True, None, "ä"]}),
        ("javascript", "return {a: [1, 2.5, true, null, 'ä']}", {"a": [1, 2.5, True, None, "ä"]}),
        ("shell", 'echo \'{"a": [1, 2.5, true, null, "ä"]}\' > $RESULT', {"a": [1, 2.5, True, None, "ä"]}),
        ("python", "pass", None),
        ("javascript", "", None),
        ("shell", "true", ""),
        ("python", "", None),
        ("python", "return (1, 2)", [1, 2]),
        ("python", "return {1: 'a'}", {"1": "a"}),
        ("python", "import numpy as np\nreturn [np.int64(1), np.float32(0.5), np.bool_(True)]", [1, 0.5, True]),
        (
            "python",
            "import datetime\nreturn datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)",
            "2026-01-02T00:00:00+00:00",
        ),
        (
            "python",
            "import datetime\nreturn [datetime.date(2026, 1, 2), datetime.time(3, 4)]",
            ["2026-01-02", "03:04:00"],
        ),
        ("javascript", "return new Date(0)", "1970-01-01T00:00:00.000Z"),
        ("javascript", "return {a: undefined, b: [undefined]}", {"b": [None]}),
        ("javascript", "return 12n", 12),
        ("javascript", "return 2 ** 80", 2.0**80),
        ("python", "return 2.0 ** 80", 2.0**80),
        ("python", "return 2**53 - 1", 2**53 - 1),
        ("javascript", "return JSON.parse('{\"__proto__\": 1}')", {"__proto__": 1}),
        ("javascript", "return { then(resolve) { resolve('thenable'); } }", "thenable"),
        ("javascript", "return new Proxy({a: 1}, {})", {"a": 1}),
        ("javascript", "return { get a() { return 1; } }", {"a": 1}),
        ("javascript", "return new URL('https://example.com/')", "https://example.com/"),
        ("javascript", "Object.prototype.toJSON = () => 'evil'; JSON.stringify = () => 'evil'; return [1]", [1]),
        ("javascript", "JSON.stringify = () => 'evil'; Promise.prototype.then = null; return [1]", [1]),
        ("javascript", "Array.prototype[Symbol.iterator] = null; Array.prototype.map = null; return [1]", [1]),
        ("python", "import json\njson.dumps = lambda *a, **k: 'evil'\nreturn 1", 1),
    ],
)
async def test_result_is_encoded(run_step: RunStep, language: Language, code: str, result: Json) -> None:
    outcome = await run_step(code, language)
    assert (outcome.result, outcome.error) == (result, None)


@attack(
    "return NaN, infinities, 2^80, half a surrogate pair, cycles, 100,000 levels, bytes, sets, functions, odd keys",
    "`failed`, code `result_not_json`, with the path",
)
@pytest.mark.parametrize(
    ("language", "code", "message"),
    [
        ("python", "return {'a': [0, float('nan')]}", "result.a[1] is nan"),
        ("javascript", "return {a: [0, NaN]}", "result.a[1] is NaN"),
        ("shell", "echo '{\"a\": [0, NaN]}' > $RESULT", "result contains NaN"),
        ("python", "return [float('inf')]", "result[0] is inf"),
        ("javascript", "return [Infinity]", "result[0] is Infinity"),
        ("shell", "echo '[1e999]' > $RESULT", "result[0] is a number too large"),
        ("python", "return {'a': 2**80}", "result.a is an integer beyond"),
        ("javascript", "return {a: 2n ** 80n}", "result.a is an integer beyond"),
        ("shell", "echo '{\"a\": 1208925819614629174706176}' > $RESULT", "result.a is an integer beyond"),
        ("python", "return '\\ud800'", "result is text with half a surrogate pair"),
        ("javascript", "return '\\ud800'", "result is text with half a surrogate pair"),
        ("shell", "echo '\"\\ud800\"' > $RESULT", "result is text with half a surrogate pair"),
        ("python", "a = {}\na['b'] = [a]\nreturn a", "result.b[0] contains itself"),
        ("javascript", "const a = {}; a.b = [a]; return a", "result.b[0] contains itself"),
        ("python", "a = []\nfor _ in range(100_000): a = [a]\nreturn a", "is nested deeper than 200 levels"),
        (
            "javascript",
            "let a = []; for (let n = 0; n < 100000; n++) a = [a]; return a",
            "is nested deeper than 200 levels",
        ),
        ("shell", "head -c 100000 /dev/zero | tr '\\0' '[' > $RESULT", "is nested deeper than 200 levels"),
        ("python", "return {'a': b'x'}", "result.a is bytes"),
        ("javascript", "return {a: new Uint8Array(1)}", "result.a is bytes"),
        ("python", "return {1, 2}", "result is a set"),
        ("javascript", "return new Map()", "result is a Map"),
        ("python", "return object()", "result is a object"),
        ("python", "import pandas as pd\nreturn pd.DataFrame({'a': [1]})", 'return frame.to_dict("records")'),
        ("python", "import pandas as pd\nreturn pd.NaT", "result is NaT"),
        ("javascript", "return {a: () => 1}", "result.a is a function"),
        ("javascript", "return {a: {then() {}}}", "result.a.then is a function"),
        ("javascript", "return new Date('x')", "result is an invalid date"),
        ("shell", "echo 'no json' > $RESULT", "result is not valid JSON"),
        ("python", "return {(1, 2): 1}", "result has a key of type tuple"),
    ],
)
async def test_result_that_json_cannot_say_names_the_path(
    run_step: RunStep, language: Language, code: str, message: str
) -> None:
    outcome = await run_step(code, language)
    assert outcome.error is not None
    assert (outcome.status, outcome.error.code) == (StepStatus.FAILED, "result_not_json")
    assert message in outcome.error.message


async def test_getter_that_throws_is_the_codes_error(run_step: RunStep) -> None:
    outcome = await run_step("return { get a() { throw new Error('no'); } }", "javascript")
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.message) == ("exception", "Error: no")


@pytest.mark.every_runner
@attack(
    "return what never ends: proxies, getters and iterators that loop, endless lengths",
    "`timed_out`, or `out_of_memory`",
)
@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("javascript", "return { get a() { for (;;); } }", (StepStatus.TIMED_OUT, "timed_out")),
        ("javascript", "return new Proxy({}, { ownKeys() { for (;;); } })", (StepStatus.TIMED_OUT, "timed_out")),
        ("javascript", "return { then() { for (;;); } }", (StepStatus.TIMED_OUT, "timed_out")),
        (
            "python",
            "class D(dict):\n    def items(self):\n        while True: yield 'a', 1\nreturn D(a=1)",
            (StepStatus.TIMED_OUT, "timed_out"),
        ),
        (
            "javascript",
            "return new Proxy([], { get: (_, key) => key === 'length' ? 2 ** 53 : 0 })",
            (StepStatus.OUT_OF_MEMORY, "out_of_memory"),
        ),
        ("javascript", "return Array(1e9)", (StepStatus.OUT_OF_MEMORY, "out_of_memory")),
    ],
)
async def test_result_without_an_end_is_ended(
    run_step: RunStep, language: Language, code: str, expected: tuple[StepStatus, str]
) -> None:
    timeout = 0.5 if expected[0] is StepStatus.TIMED_OUT else 30
    assert told(await run_step(code, language, timeout=timeout, grace=0.2)) == expected


@attack(
    "return objects that change while they are read: `toJSON`, thenables, getters, subclasses of text and numbers",
    "read once, by the rules",
)
@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("javascript", "return { then(a) { a({ then(b) { b(1) } }) } }", (StepStatus.SUCCEEDED, 1)),
        ("javascript", "let n = 0; return { get a() { return n++ } }", (StepStatus.SUCCEEDED, {"a": 0})),
        ("javascript", "return { get a() { return this } }", (StepStatus.FAILED, None)),
        ("javascript", "return { toJSON() { return { toJSON() { return this } } } }", (StepStatus.FAILED, None)),
        ("javascript", "return { then() {} }", (StepStatus.FAILED, None)),
        (
            "javascript",
            "return { ['__proto__']: 1, constructor: 2 }",
            (StepStatus.SUCCEEDED, {"__proto__": 1, "constructor": 2}),
        ),
        (
            "python",
            "class S(str):\n    def encode(self, *a): return b'evil'\nreturn S('text')",
            (StepStatus.SUCCEEDED, "text"),
        ),
        ("python", "class I(int):\n    def __int__(self): return 2**80\nreturn I(1)", (StepStatus.FAILED, None)),
        (
            "python",
            "class F(float):\n    def __float__(self): return float('nan')\nreturn F(1)",
            (StepStatus.FAILED, None),
        ),
    ],
)
async def test_result_that_changes_while_it_is_read_is_read_once(
    run_step: RunStep, language: Language, code: str, expected: tuple[StepStatus, Json]
) -> None:
    outcome = await run_step(code, language)
    assert (outcome.status, outcome.result) == expected


@pytest.mark.every_runner
@attack("put a link, a FIFO or a directory where the script's result is read", "it is no result")
@pytest.mark.parametrize(
    "trick",
    ["ln -s /etc/passwd $RESULT", "mkfifo $RESULT", "mkdir $RESULT", "rm -r /tmp/.stepbox; ln -s /etc /tmp/.stepbox"],
)
async def test_result_file_that_is_no_file_is_ignored(run_step: RunStep, trick: str) -> None:
    outcome = await run_step(f"{trick}; echo text", "shell")
    assert outcome.result == "text"
