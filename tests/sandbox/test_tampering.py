"""Tampering with the language and the guest, from inside the code's own process"""

import pytest

from flows.values import Json, StepStatus
from steps.sandbox.limits import Language
from tests.sandbox.conftest import RecordingHost, RunStep, told

FAILED, SUCCEEDED, TIMED_OUT = StepStatus.FAILED, StepStatus.SUCCEEDED, StepStatus.TIMED_OUT
attack = pytest.mark.attack

PYTHON = "\nreturn [tools.echo(x=[1, 'ä']), 'ok']"
JAVASCRIPT = "; return [await tools.echo({ x: [1, 'ä'] }), 'ok']"
EXPECTED: Json = [{"x": [1, "ä"]}, "ok"]


@pytest.fixture
def host() -> RecordingHost:
    return RecordingHost(tools={"demo.echo": lambda arguments: arguments})


@attack(
    "replace `json`, the output streams, `sys.modules`, `os._exit`, the prototypes of JSON, Promise, String, Number, "
    "Object; pollute `Object.prototype`; freeze everything",
    "calls and result are as ever",
)
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import json\njson.dumps = json.loads = lambda *a, **k: 'evil'"),
        ("python", "import sys\nsys.modules.clear()"),
        ("python", "import sys\nsys.stdout = sys.stderr = sys.stdin = None"),
        ("python", "import os\nos._exit = lambda *a: None"),
        ("python", "import gc\ngc.disable(); gc.freeze()"),
        ("python", "import os, shutil\nos.environ.clear(); shutil.rmtree('/work', ignore_errors=True)"),
        ("javascript", "JSON.stringify = () => '1'; JSON.parse = () => 1"),
        ("javascript", "Promise.prototype.then = Promise.prototype.catch = Promise.resolve = () => 1"),
        ("javascript", "Promise.prototype.constructor = class { constructor() { for (;;); } }"),
        ("javascript", "TextEncoder.prototype.encode = TextDecoder.prototype.decode = () => '1'"),
        ("javascript", "String.prototype.replaceAll = String.prototype.split = String.prototype.slice = () => 'x'"),
        ("javascript", "Reflect.apply = () => 1; Object.keys = () => []; Object.getPrototypeOf = () => null"),
        ("javascript", "Number.isFinite = Number.isSafeInteger = isNaN = () => false"),
        ("javascript", "Object.defineProperty(Object.prototype, 'kind', { set() {}, get: () => 'log' })"),
        ("javascript", "Object.defineProperty(Object.prototype, '0', { set() { throw 1 }, get: () => 5 })"),
        ("javascript", "Object.defineProperty(Object.prototype, 'length', { set() {}, get: () => 9 })"),
        ("javascript", "Object.prototype.ok = false; Object.prototype.id = 7; Object.prototype.code = 'x'"),
        ("javascript", "RegExp.prototype.exec = () => null; RegExp.prototype.test = () => true"),
        ("javascript", "Error.prepareStackTrace = () => { for (;;); }"),
        (
            "javascript",
            "Object.freeze(Object.prototype); Object.freeze(Array.prototype); Object.freeze(Uint8Array.prototype)",
        ),
        ("javascript", "delete tools.echo; delete tools.demo"),
    ],
)
async def test_tampering_changes_nothing(run_step: RunStep, host: RecordingHost, language: Language, code: str) -> None:
    outcome = await run_step(code + (PYTHON if language == "python" else JAVASCRIPT), language, host=host)
    assert (outcome.result, outcome.error) == (EXPECTED, None)
    assert host.calls == [("demo.echo", {"x": [1, "ä"]})]


@attack(
    "break what the guest needs in the code's own process: `os.write`, builtins, typed arrays, Map, iterators, "
    "`Symbol.species`, `Object.prototype.then`",
    "the step fails; what the host gets is checked as ever",
)
@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", "import os\nos.write = lambda *a: 1 / 0"),
        ("python", "import builtins\nbuiltins.len = lambda *a: 0"),
        ("python", "import builtins\nbuiltins.isinstance = lambda *a: True"),
        (
            "python",
            "import sys\nfor name, module in list(sys.modules.items()):\n    if 'guest' in name: module.__dict__.clear()",
        ),
        ("python", "import gc\nfor one in gc.get_objects():\n    if type(one).__name__ == 'Channel': one._replies = 0"),
        ("python", "import sys\nsys.settrace(lambda *a: 1 / 0)"),
        ("python", "import os\nos.dup2(1, 4); os.dup2(1, 5)"),
        ("python", "import os\nos.closerange(3, 100)"),
        ("javascript", "Uint8Array.prototype.set = Uint8Array.prototype.subarray = () => 1"),
        ("javascript", "DataView.prototype.setUint32 = DataView.prototype.getUint32 = () => 1"),
        ("javascript", "Map.prototype.get = Map.prototype.set = Map.prototype.delete = () => { throw 1 }"),
        ("javascript", "Object.defineProperty(Map.prototype, 'size', { get: () => 0 })"),
        ("javascript", "Array.prototype[Symbol.iterator] = function* () { yield 1 }"),
        ("javascript", "Object.defineProperty(Uint8Array, Symbol.species, { get: () => Array })"),
        (
            "javascript",
            "Object.defineProperty(Promise, Symbol.species, { get: () => class { constructor(f) { f(() => 0, () => 0) } } })",
        ),
        ("javascript", "Object.prototype.then = function (resolve) { resolve('evil') }"),
        ("javascript", "Object.setPrototypeOf(Uint8Array.prototype, null)"),
        (
            "javascript",
            "for (const name of Object.getOwnPropertyNames(globalThis)) { try { delete globalThis[name] } catch {} }",
        ),
    ],
)
async def test_broken_guest_is_a_failed_step(
    run_step: RunStep, host: RecordingHost, language: Language, code: str
) -> None:
    code += PYTHON if language == "python" else JAVASCRIPT
    outcome = await run_step(code, language, host=host, timeout=5, grace=0.2)
    # Whether anything is still waiting for a promise of the other kind is a matter of time.
    unharmed = (SUCCEEDED, EXPECTED) if "Symbol.species, { get: () => class" in code else (FAILED, None)
    assert (outcome.status, outcome.result) in ((FAILED, None), unharmed)
    assert [name for name, _arguments in host.calls] in ([], ["demo.echo"])


@attack("replace a tool, or add one", "`tools` can't be changed (JavaScript); the host decides anyway")
@pytest.mark.parametrize("code", ["tools.echo = () => 5", "Object.defineProperty(tools, 'other', { value: () => 5 })"])
async def test_tools_can_not_be_replaced(run_step: RunStep, host: RecordingHost, code: str) -> None:
    outcome = await run_step(code, "javascript", host=host)
    assert told(outcome) == (FAILED, "exception")
    assert outcome.error is not None
    assert "object is not extensible" in outcome.error.message


@pytest.mark.every_runner
@attack(
    "end the process in other ways: signals, aborts, segmentation faults, wild pointers, endless recursion",
    "`failed` by its signal, or `out_of_memory`; never the host's trouble",
)
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import signal, time\nsignal.alarm(1)\ntime.sleep(30)", (FAILED, "signal")),
        ("import os\nos.abort()", (FAILED, "signal")),
        ("import ctypes\nctypes.string_at(0)", (FAILED, "signal")),
        ("import ctypes\nctypes.memset(id(tools), 0, 64)\ntools.x()", (FAILED, "signal")),
        ("import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()", (StepStatus.OUT_OF_MEMORY, "out_of_memory")),
        ("def f(): f()\nf()", (FAILED, "exception")),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", (StepStatus.KILLED, "killed")),
        ("raise KeyboardInterrupt", (FAILED, "exception")),
        ("raise SystemExit(300)", (FAILED, "exit_status")),
    ],
)
async def test_end_by_force_is_told(run_step: RunStep, code: str, expected: tuple[StepStatus, str]) -> None:
    outcome = await run_step(code)
    assert told(outcome) == expected


@attack(
    "throw what can't be shown: looping or throwing `__str__`, getters, proxies, cycles of causes, 1 MB of text",
    "the step fails, or times out",
)
@pytest.mark.parametrize(
    ("language", "code", "expected"),
    [
        ("python", "class E(Exception):\n    def __str__(self): raise ValueError\nraise E", (FAILED, "exception")),
        (
            "python",
            "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
            (TIMED_OUT, "timed_out"),
        ),
        ("python", "e = ValueError('x')\ne.__context__ = e\nraise e", (FAILED, "exception")),
        ("python", "e = ValueError('x' * 10**6)\ne.add_note('y' * 10**6)\nraise e", (FAILED, "exception")),
        ("python", "raise ValueError('\\ud800')", (FAILED, "exception")),
        ("python", "class E(Exception): code = 'out_of_memory'\nraise E", (FAILED, "exception")),
        ("javascript", "throw new Proxy(new Error('x'), { get() { throw 1 } })", (FAILED, "exception")),
        ("javascript", "throw new Proxy(new Error('x'), { get() { for (;;); } })", (TIMED_OUT, "timed_out")),
        (
            "javascript",
            "const e = new Error('x'); Object.defineProperty(e, 'stack', { get() { throw 1 } }); throw e",
            (FAILED, "exception"),
        ),
        ("javascript", "throw Symbol('x')", (FAILED, "exception")),
        ("javascript", "throw null", (FAILED, "exception")),
        ("javascript", "throw new Error('x'.repeat(1e6))", (FAILED, "exception")),
        (
            "javascript",
            "queueMicrotask(() => { throw new Error('late') }); await new Promise(() => {})",
            (FAILED, "exception"),
        ),
    ],
)
async def test_error_that_can_not_be_shown_is_an_error(
    run_step: RunStep, language: Language, code: str, expected: tuple[StepStatus, str]
) -> None:
    outcome = await run_step(code, language, timeout=1, grace=0.2)
    assert told(outcome) == expected
    assert outcome.error is not None
    assert len(outcome.error.message) + len(outcome.error.traceback or "") < 31_000


REACHABLE = """
const seen = new Set(), found = [];
const powers = /^(core|ops|op_.*|read(TextFile|File|Dir|Link).*|write(TextFile|File).*|Command|env|dlopen|spawn.*|execSync|internal|bootstrap|Deno|process|require|primordials|mainModule|createRequire|setTimeout|Worker|WebAssembly)$/;
const queue = [[globalThis, "globalThis"], [inputs, "inputs"], [tools, "tools"], [import.meta, "import.meta"], [arguments, "arguments"],
  [(async () => {}).constructor, "AsyncFunction"], [(async function* () {}).constructor, "AsyncGeneratorFunction"], [console, "console"]];
while (queue.length) {
  const [value, path] = queue.shift();
  if ((typeof value !== "object" && typeof value !== "function") || value === null || seen.has(value)) continue;
  seen.add(value);
  for (const key of Reflect.ownKeys(value)) {
    const place = `${path}.${String(key)}`;
    if (powers.test(String(key))) found.push(place);
    const property = Object.getOwnPropertyDescriptor(value, key);
    if (!property) continue;
    for (const part of [property.value, property.get, property.set]) queue.push([part, place]);
    try { queue.push([Reflect.get(value, key), place]); } catch {}
  }
  queue.push([Object.getPrototypeOf(value), `${path}.__proto__`]);
}
return [seen.size > 1000, found];
"""


@attack(
    "find deno's own objects by walking over everything that can be reached from the globals",
    "none is among the 1,400 objects",
)
async def test_nothing_of_deno_can_be_reached(run_step: RunStep) -> None:
    outcome = await run_step(REACHABLE, "javascript")
    assert (outcome.result, outcome.error) == ([True, []], None)


@attack(
    "reach the guest's functions by stack frames: `Error.prepareStackTrace`, `getThis`, `getFunction`, `arguments.callee.caller`",
    "they are not given",
)
async def test_stack_frames_give_nothing_away(run_step: RunStep) -> None:
    code = """
const given = [];
Error.prepareStackTrace = (error, frames) => {
  for (const frame of frames) given.push(typeof frame.getThis(), typeof frame.getFunction());
  return "";
};
[1].map(() => new Error().stack);
await tools.echo({ toJSON() { new Error().stack; return {}; } });
let caller = "none";
try { caller = (function f() { return f.caller; })(); } catch {}
return [[...new Set(given)].filter((kind) => kind === "function"), caller === null || caller === "none"];
"""
    outcome = await run_step(code, "javascript", host=RecordingHost(tools={"demo.echo": lambda _given: None}))
    assert outcome.result == [[], True]


@pytest.mark.every_runner
@attack(
    "import: every scheme, every `type`, source and deferred imports",
    "refused; what is imported as text from `data:` has nothing more",
)
async def test_no_scheme_can_be_imported(run_step: RunStep) -> None:
    code = """
const got = [];
for (const url of inputs.urls) {
  for (const options of [undefined, ...["json", "text", "bytes", "wasm"].map((type) => ({ with: { type } }))]) {
    try { await import(url, options); got.push([url, options?.with.type ?? null]); } catch {}
  }
}
for (const kind of ["source", "defer"]) {
  for (const url of inputs.urls) {
    try { await new Function(`return import.${kind}(${JSON.stringify(url)})`)(); got.push([url, kind]); } catch {}
  }
}
return got;
"""
    urls: list[Json] = [
        *("file:///etc/passwd", "/etc/passwd", "../../../etc/passwd", "./step.js", "file://localhost/etc/passwd"),
        *(
            "file:///opt/stepbox/steps/sandbox/guest/supervisor.py",
            "file:///opt/stepbox/steps/sandbox/guest/imports.json",
        ),
        *("file:///opt/stepbox/steps/sandbox/guest/step.js?again", "file:///proc/self/environ", "file:///work/x.js"),
        *("node:fs", "fs", "npm:x", "jsr:@a/b", "http://127.0.0.1/x.js", "https://example.com/x.js", "blob:null/x"),
        *(
            "ext:core/ops",
            "ext:deno_web/00_infra.js",
            "deno:core",
            "internal:x",
            "chrome://x",
            "cdp:x",
            "std/x",
            "ftp://x/y",
        ),
    ]
    outcome = await run_step(code, "javascript", inputs={"urls": urls}, timeout=20)
    assert (outcome.result, outcome.error) == ([], None)
