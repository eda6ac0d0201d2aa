"""The command ``tool NAME [JSON | -]`` of shell steps.

``-`` reads the arguments from stdin. Prints the tool's result as JSON, text included. Exit status 1: the call was
denied or failed, and stderr says ``CODE: MESSAGE``; 2: the command was used wrongly.
"""

# ruff: noqa: T201 - a command prints

import _socket
import os
import sys

sys.path.insert(0, "/opt/stepbox")

from steps.sandbox.guest import framing
from steps.sandbox.guest.json_text import dumps, loads

USED_WRONGLY = 2


def main() -> int:
    name, *rest = sys.argv[1:] or [""]
    if not name or len(rest) > 1:
        print("usage: tool NAME [JSON | -]", file=sys.stderr)
        return USED_WRONGLY
    text = rest[0] if rest else "{}"
    if text == "-":
        text = sys.stdin.read()
    try:
        arguments = loads(text.encode())
    except ValueError as error:
        print(f"tool: the arguments are not JSON: {error}", file=sys.stderr)
        return USED_WRONGLY
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    line.connect(framing.TOOL_SOCKET)
    request = framing.encode({"tool": name}, dumps(arguments).encode())
    framing.write_all(line.fileno(), request)
    frame = framing.read_frame(line.fileno())
    if frame is None:
        print("tool: the call was not answered", file=sys.stderr)
        return 1
    header, payload = frame
    value = loads(payload)
    if not header["ok"]:
        print(f"{value['code']}: {value['message']}", file=sys.stderr)
        return 1
    print(dumps(value))
    return 0


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
    status = main()
    sys.stdout.flush()
    os._exit(status)
