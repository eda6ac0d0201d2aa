"""Runs a Python step: the code as the body of a function, or a module whose ``main`` is called.

Everything here runs in the user's own process, so nothing here guards anything: it makes the code comfortable.
"""

# ruff: noqa: SIM105, PLC0415 - needless imports would slow each start

from __future__ import annotations

import _ast
import _thread
import errno
import os
import sys
import types

from steps.sandbox.guest import framing, kernel, results, tool_names
from steps.sandbox.guest.json_text import dumps, loads

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn


STEP = "<step>"
NO_NETWORK = 'network is none for this step; declare `network: {allow: ["HOST"]}`'
PROXY_IGNORED = "only HTTP and HTTPS through the proxy leave this step: let the client use HTTPS_PROXY"


def warm_up(preload: list[str]) -> None:
    """Import what code will need, once, before its job comes."""
    sys.path[:] = [path for path in sys.path if not path.startswith("/opt/stepbox")]
    sys.path.append("/opt/packages")
    for name in preload:
        try:
            __import__(name)
        except Exception:  # noqa: BLE001 - the code itself will meet the same error and say so
            sys.modules.pop(name, None)
    compile(_function([]), STEP, "exec")


class ToolError(Exception):
    """A tool call that was denied or failed. ``code`` is stable, ``message`` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Channel:
    """The code's own line to the supervisor; any thread may call."""

    def __init__(self, replies: int, calls: int) -> None:
        self._replies = replies
        self._calls = calls
        self._next = 0
        self._write_lock = _thread.allocate_lock()
        self._read_lock = _thread.allocate_lock()
        self._waiting: dict[int, tuple[dict[str, Any], bytes]] = {}

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        with self._write_lock:
            framing.write_all(self._calls, framing.encode(header, payload))

    def send_error(self, description: dict[str, Any]) -> None:
        self.send({"kind": "error"}, dumps(description).encode(errors="replace"))

    def call(self, name: str, arguments: Any) -> Any:
        payload = results.encode(arguments, "arguments")
        with self._write_lock:
            self._next += 1
            number = self._next
            framing.write_all(self._calls, framing.encode({"kind": "call", "id": number, "tool": name}, payload))
        header, payload = self._reply(number)
        value = loads(payload)
        if header["ok"]:
            return value
        raise ToolError(value["code"], value["message"])

    def _reply(self, number: int) -> tuple[dict[str, Any], bytes]:
        """Wait for the answer to a call; whichever thread reads puts the others' answers aside."""
        while True:
            with self._read_lock:
                if number in self._waiting:
                    return self._waiting.pop(number)
                frame = framing.read_frame(self._replies)
                if frame is None:
                    os._exit(1)
                self._waiting[frame[0]["id"]] = frame


class Secrets:
    """The secrets that the step was given, as attributes and as items; showing it shows their names alone."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._values:
            return self._values[name]
        raise AttributeError(self._missing(name))

    def __getitem__(self, name: str) -> str:
        if name in self._values:
            return self._values[name]
        raise KeyError(self._missing(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __len__(self) -> int:
        return len(self._values)

    def __dir__(self) -> list[str]:
        return sorted(self._values)

    def __repr__(self) -> str:
        return f"<secrets: {', '.join(self._values) or 'none given'}>"

    def _missing(self, name: str) -> str:
        return f"the secret {name!r} is not given to this step; name it in the step: secrets: [{name}]"


class Tools:
    """The tools that the step was granted, by short and by full name."""

    def __init__(self, channel: Channel, granted: list[str], prefix: str = "") -> None:
        self._channel = channel
        self._granted = granted
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        full = f"{self._prefix}{name}"
        names = tool_names.callable_names(self._granted)
        if full in names:
            return Tool(self._channel, names[full])
        if any(other.startswith(f"{full}.") for other in self._granted):
            return Tools(self._channel, self._granted, f"{full}.")
        return Refusal(full, self._granted)

    def __dir__(self) -> list[str]:
        return sorted(tool_names.callable_names(self._granted))

    def __repr__(self) -> str:
        return f"<tools: {', '.join(self._granted) or 'none granted'}>"


class Tool:
    """One granted tool: call it with one dict, or with keyword arguments."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._name = name

    def __call__(self, arguments: Any = None, /, **named: Any) -> Any:
        if arguments is not None and named:
            raise TypeError(f"{self._name}: pass one dict or keyword arguments, not both")
        return self._channel.call(self._name, named if arguments is None else arguments)

    def __repr__(self) -> str:
        return f"<tool {self._name}>"


class Refusal:
    """A name that stands for no granted tool: calling it says how to get it."""

    def __init__(self, name: str, granted: list[str]) -> None:
        self._name = name
        self._granted = granted

    def __getattr__(self, name: str) -> Refusal:
        if name.startswith("__"):
            raise AttributeError(name)
        return Refusal(f"{self._name}.{name}", self._granted)

    def __call__(self, *_arguments: Any, **_named: Any) -> NoReturn:
        raise ToolError("tool_not_granted", tool_names.refusal(self._name, self._granted))


class Source:
    """Lets tracebacks find the lines of the code: the part of an import loader that they ask."""

    def __init__(self, text: str) -> None:
        self._text = text

    def get_source(self, _name: str) -> str:
        return self._text


def run(job: dict[str, Any], parts: tuple[bytes, bytes, bytes], replies: int, calls: int) -> NoReturn:
    """Run the code, tell its result or error, and end the process.

    ``parts`` are the code, the inputs and the secrets, these two as JSON.
    """
    kernel.default_signals()
    os.chdir("/work")
    sys.argv = [job["filename"]]
    sys.stdin = open(0)  # noqa: SIM115 - the descriptors are new, the objects belong to the supervisor
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    channel = Channel(replies, calls)
    status = 0
    try:
        code, inputs, secrets = parts
        value = _execute(job, code.decode(), loads(inputs), loads(secrets), channel)
        payload = results.encode(value, "result")
        if len(payload) > job["result_limit"]:
            channel.send_error(_too_large(len(payload), job["result_limit"]))
        else:
            _flush()
            channel.send({"kind": "result"}, payload)
    except BaseException as error:  # noqa: BLE001 - whatever ends the code is told to the host
        status = _tell(error, channel, job)
    _flush()
    os._exit(status)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass


def _too_large(size: int, limit: int) -> dict[str, Any]:
    return {
        "code": "result_too_large",
        "message": f"the result is {size} bytes of JSON, the limit is {limit}",
        "fix": "write large results to a file in artifacts/ and return its name",
    }


def _execute(job: dict[str, Any], code: str, inputs: dict[str, Any], secrets: dict[str, str], channel: Channel) -> Any:
    filename = job["filename"]
    module = types.ModuleType("step")
    module.__file__ = filename
    module.__loader__ = Source(code)  # type: ignore[assignment]
    sys.modules["step"] = module
    scope = module.__dict__
    scope["inputs"] = inputs
    scope["tools"] = Tools(channel, job["tools"])
    scope["secrets"] = Secrets(secrets)
    tree: _ast.Module = compile(code, filename, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)  # type: ignore[assignment]
    if any(isinstance(node, _ast.FunctionDef | _ast.AsyncFunctionDef) and node.name == "main" for node in tree.body):
        exec(compile(tree, filename, "exec", dont_inherit=True), scope)  # noqa: S102 - this is what a step is
        value = scope["main"](**inputs)
    else:
        exec(compile(_function(tree.body), filename, "exec", dont_inherit=True), scope)  # noqa: S102
        value = scope.pop(STEP)()
    if isinstance(value, types.CoroutineType):
        import asyncio

        value = asyncio.run(value)
    return value


def _function(body: list[_ast.stmt]) -> _ast.Module:
    """The body as a function of no arguments, with every line where it was."""
    future = [node for node in body if isinstance(node, _ast.ImportFrom) and node.module == "__future__"]
    rest = [node for node in body if node not in future] or [
        _ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)
    ]
    nothing = _ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[])
    function = _ast.FunctionDef(
        name=STEP, args=nothing, body=rest, decorator_list=[], lineno=1, col_offset=0, end_lineno=1, end_col_offset=0
    )
    # A list that Python 3.11 doesn't know, and 3.12 wants.
    function.type_params = []  # type: ignore[attr-defined]
    return _ast.Module(body=[*future, function], type_ignores=[])


def _tell(error: BaseException, channel: Channel, job: dict[str, Any]) -> int:
    """Tell the host how the code failed; gives the exit status of the process."""
    if isinstance(error, SystemExit):
        if error.code is None or error.code == 0:
            channel.send({"kind": "result"}, b"null")
            return 0
        number = error.code if isinstance(error.code, int) else 1
        said = "" if isinstance(error.code, int) else str(error.code)[:10_000]
        channel.send_error({"code": "exit_status", "message": said or f"the code exited with status {number}"})
        return number & 0xFF
    try:
        description = _describe(error, job["filename"])
        if "fix" not in description and _looked_for_a_network(error):
            description["fix"] = PROXY_IGNORED if "network" in job else NO_NETWORK
    except BaseException:  # noqa: BLE001 - an exception may break even its own description, or memory is gone
        description = {"code": _code(error), "message": type(error).__name__}
    channel.send_error(description)
    return 1


def _code(error: BaseException) -> str:
    if isinstance(error, ToolError | results.NotJsonError):
        return error.code
    if isinstance(error, MemoryError):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return "disk_full"
    if isinstance(error, SyntaxError):
        return "syntax_error"
    return "exception"


def _looked_for_a_network(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, is that a name has no address or that no way leads to one."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and (type(error).__name__ == "gaierror" or error.errno == errno.ENETUNREACH):
            return True
        error = error.__cause__ or error.__context__
    return False


def _describe(error: BaseException, filename: str) -> dict[str, Any]:
    import traceback

    described = traceback.TracebackException.from_exception(error)
    _keep_own_frames(described, filename, set())
    line = described.stack[-1].lineno if described.stack else None
    if isinstance(error, SyntaxError) and error.filename == filename:
        line = error.lineno
    message = "".join(described.format_exception_only()).strip()
    if isinstance(error, SyntaxError):
        message = f"{type(error).__name__}: {error.msg}"
    elif isinstance(error, ToolError | results.NotJsonError):
        message = str(error)
    description: dict[str, Any] = {"code": _code(error), "message": message[:10_000], "line": line}
    if not isinstance(error, results.NotJsonError):
        description["traceback"] = "".join(described.format())[-20_000:]
    if isinstance(error, ModuleNotFoundError):
        description["fix"] = "a step has the standard library, requests, pandas, numpy, httpx and pyyaml"
    return description


def _keep_own_frames(described: Any, filename: str, seen: set[int]) -> None:
    """Leave only the frames of the user's code in a described exception and in those that led to it."""
    if described is None or id(described) in seen:
        return
    seen.add(id(described))
    described.stack[:] = [frame for frame in described.stack if frame.filename == filename]
    _keep_own_frames(described.__cause__, filename, seen)
    _keep_own_frames(described.__context__, filename, seen)
    for inner in described.exceptions or ():
        _keep_own_frames(inner, filename, seen)
