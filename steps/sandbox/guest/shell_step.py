"""Prepares a shell step, answers its ``tool`` commands, and reads its result. Runs in the supervisor.

The command of an image runs in another container, which shares the work directory: prepared and read alike.
"""

# ruff: noqa: PTH102, PTH120, PTH123, PLC0415 - pathlib, contextlib and seldom imports would slow each start

from __future__ import annotations

import _socket
import os
import select
import stat

from steps.sandbox.guest import framing, tool_names
from steps.sandbox.guest.json_text import dumps, loads

# Importing `typing` alone would take longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Send = Callable[..., None]


FOLDER = "/tmp/.stepbox"  # noqa: S108 - the sandbox's own /tmp
SHARED_FOLDER = "/work/.stepbox"
"""The same for code in another container."""
LINE = f"{FOLDER}/line"
NO_SECRETS = b"{}"
WHITE_SPACE = 1024
"""Bytes around the JSON in $RESULT that do not count: most programs end their output with a line end."""
MAX_VARIABLE = 64 * 1024
MAX_VARIABLES = 512 * 1024
"""Bytes of a variable, and of all: the kernel starts nothing with one of 128 KiB, or with more than 2 MiB in all."""
MAX_LINES = 64
BACKLOG = 64
ANSWER_TIMEOUT_MS = 2000
IN_VARIABLES = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def prepare(job: dict[str, Any], code: str, inputs: bytes, secrets: bytes) -> tuple[dict[str, str], list[str]]:
    """The environment and the command of the script."""
    keep_given(inputs, secrets, FOLDER)
    environment = {
        **job["environment"],
        **variables(loads(inputs), FOLDER, secrets=secrets != NO_SECRETS),
        "BASH_ENV": f"{os.path.dirname(__file__)}/shell_env.sh",
    }
    return environment, ["/bin/bash", "-e", "-o", "pipefail", "-c", code, job["filename"]]


def prepare_elsewhere(job: dict[str, Any], inputs: bytes, secrets: bytes) -> None:
    """Write what code in another container finds in the work directory."""
    keep_given(inputs, secrets, SHARED_FOLDER)
    if "network" in job and job["network"]["authorities"]:
        from steps.sandbox.guest import proxy

        proxy.keep_bundle(job["network"]["authorities"].encode(), proxy.SHARED_AUTHORITIES)


def keep_given(inputs: bytes, secrets: bytes, folder: str) -> None:
    """Write the inputs where the code finds them by ``INPUTS``, and the secrets where it does by ``SECRETS``.

    Secrets are files, in memory as all here, and no variables: every program inherits those, and an Engine keeps the
    ones that it starts a container with.
    """
    os.mkdir(folder)
    with open(f"{folder}/inputs.json", "wb") as file:
        file.write(inputs)
    if secrets == NO_SECRETS:
        return
    os.mkdir(f"{folder}/secrets", 0o700)
    for name, value in loads(secrets).items():
        with open(f"{folder}/secrets/{name}", "wb", opener=_for_reading_alone) as file:
            file.write(value.encode(errors="surrogatepass"))


def _for_reading_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o400)


def variables(inputs: Mapping[str, Any], folder: str, *, secrets: bool) -> dict[str, str]:
    """What tells the code its inputs, and its secrets where it has any, and where its result goes."""
    given = {"SECRETS": f"{folder}/secrets"} if secrets else {}
    return {
        **given,
        **{f"INPUT_{variable(name)}": text for name, text in _scalars(inputs)},
        "INPUTS": f"{folder}/inputs.json",
        "RESULT": f"{folder}/result.json",
    }


def variable(name: str) -> str:
    """The name of an input as part of a variable's: capitals, digits and underscores."""
    return "".join(letter if letter in IN_VARIABLES else "_" for letter in name.upper())


def _scalars(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Inputs that fit into a variable: text as it is, numbers and booleans as JSON, null empty."""
    found = []
    room = MAX_VARIABLES
    for name, value in values.items():
        if isinstance(value, dict | list):
            continue
        text = value if isinstance(value, str) else "" if value is None else dumps(value)
        data = text.encode(errors="replace")
        if "\0" not in text and len(data) <= min(MAX_VARIABLE, room):
            room -= len(data)
            found.append((name, data.decode()))
    return found


def _read(path: str, limit: int) -> bytes | None:
    """At most one byte more than the limit, of a real file and nothing else that the script may have put there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        data = b""
        while len(data) <= limit and (chunk := os.read(descriptor, limit + 1 - len(data))):
            data += chunk
        return data
    finally:
        os.close(descriptor)


class Listener:
    """Takes tool calls from the script's commands; each connection carries one call."""

    def __init__(self, granted: list[str], send: Send) -> None:
        self._granted = granted
        self._names = tool_names.callable_names(granted)
        self._send = send
        self._socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK)
        self._socket.bind(framing.TOOL_SOCKET)
        self._socket.listen(BACKLOG)
        self._lines: dict[int, framing.Decoder] = {}
        self._waiting: dict[int, int] = {}
        self._next = 0

    def fileno(self) -> int:
        return self._socket.fileno()

    def accept(self, watch: Callable[[int, Callable[[], None]], None], unwatch: Callable[[int], None]) -> None:
        try:
            # What `socket` itself uses; importing that would be slow.
            line, _address = self._socket._accept()  # type: ignore[attr-defined] # noqa: SLF001
        except OSError:
            return
        if len(self._lines) >= MAX_LINES:
            os.close(line)
            return
        os.set_blocking(line, False)
        self._lines[line] = framing.Decoder()
        watch(line, lambda: self._hear(line, unwatch))

    def reply(self, header: dict[str, Any], payload: bytes) -> None:
        """Give the answer of the host to the command that waits for it."""
        line = self._waiting.pop(header["id"], None)
        if line is not None:
            self._answer(line, header, payload)

    def _hear(self, line: int, unwatch: Callable[[int], None]) -> None:
        try:
            data = os.read(line, 64 * 1024)
            frames = list(self._lines[line].feed(data))
        except (OSError, framing.BrokenFrameError):
            data, frames = b"", []
        if data and not frames:
            return
        unwatch(line)
        del self._lines[line]
        if not frames:
            os.close(line)
            return
        header, payload = frames[0]
        name = header.get("tool")
        if not isinstance(name, str) or name not in self._names:
            told = {"code": "tool_not_granted", "message": tool_names.refusal(str(name), self._granted)}
            self._answer(line, {"kind": "tool_result", "ok": False}, dumps(told).encode(errors="replace"))
            return
        self._next += 1
        self._waiting[self._next] = line
        self._send({"kind": "call", "id": self._next, "tool": self._names[name]}, payload)

    @staticmethod
    def _answer(line: int, header: dict[str, Any], payload: bytes) -> None:
        """Give an answer to a command, which reads at once: one that doesn't is cut off, not waited for."""
        poll = select.poll()
        poll.register(line, select.POLLOUT)
        rest = memoryview(framing.encode(header, payload))
        try:
            while rest and poll.poll(ANSWER_TIMEOUT_MS):
                rest = rest[os.write(line, rest) :]
        except OSError:
            pass
        os.close(line)


def tell_end(job: dict[str, Any], send: Send, *, succeeded: bool) -> None:
    """Send what the code left in $RESULT, or where it failed."""
    if succeeded:
        _tell_result(send, SHARED_FOLDER if job["elsewhere"] else FOLDER, job["result_limit"])
    elif not job["elsewhere"]:
        _tell_line(send)


def _tell_line(send: Send) -> None:
    """Send the line on which the script failed, where it is known."""
    line = _read(LINE, 20)
    if line is not None and line.isdigit():
        _fail(send, {"code": "exit_status", "line": int(line)})


def _tell_result(send: Send, folder: str, limit: int) -> None:
    """Send what the code left in $RESULT, if anything."""
    data = _read(f"{folder}/result.json", limit + WHITE_SPACE)
    if data is None:
        return
    text = data.strip()
    if len(text) <= limit and len(data) <= limit + WHITE_SPACE:
        send({"kind": "result"}, text or b"null")
        return
    _fail(
        send,
        {
            "code": "result_too_large",
            "message": f"the result in $RESULT is larger than the limit of {limit} bytes",
            "fix": "write large results to a file in $ARTIFACTS, and its name to $RESULT",
        },
    )


def _fail(send: Send, description: dict[str, Any]) -> None:
    send({"kind": "error"}, dumps(description).encode())
