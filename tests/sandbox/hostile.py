"""Supervisors that the code has taken over: guests that say what no honest one says."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.sandbox.snippets import FORGE

# Takes the place of what the supervisor does before it says that it is ready, and never comes back.
HOSTILE = f"""

def warm_up(*_given):
    import time
{FORGE.replace(chr(10), chr(10) + "    ")}
    def say(*frames):
        for one in frames: framing.write_all(HOST_OUT, one)
    def take():
        say(frame({{"kind": "ready"}}))
        framing.read_frame(HOST_IN)
        say(frame({{"kind": "taken"}}))
    try:
        {{lines}}
    finally:
        os._exit(0)
"""
# Takes the place of how a supervisor gets its line to the host.
ANNOUNCING = """

_announce = announce

def announce():
    desk = _socket.socket(fileno=os.dup(DESK))
    def give(*descriptors, data=b"\\0"):
        rights = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
        desk.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if rights else [])
    {lines}
"""
RESULT = "frame({'kind': 'result'}, b'1')"
CALL = "frame({'kind': 'call', 'id': 1, 'tool': 'demo.echo'}, b'1')"
EXIT = "frame({'kind': 'exit', 'status': 0})"


class Rewrite(Protocol):
    """Has the guest do these lines."""

    def __call__(self, lines: str, *, announcement: str | None = None) -> None: ...


@contextmanager
def hostile_guest(guest: Path) -> Iterator[tuple[Path, Rewrite]]:
    """A copy of the guest that does other lines than its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        place = Path(folder)
        place.chmod(0o755)
        shutil.copytree(guest, place / "guest", ignore=shutil.ignore_patterns("__pycache__"))

        def rewrite(lines: str, *, announcement: str | None = None) -> None:
            with (place / "guest" / "supervisor.py").open("a") as file:
                if lines:
                    file.write(HOSTILE.replace("{lines}", lines.replace("\n", "\n        ")))
            if announcement is not None:
                with (place / "guest" / "desk.py").open("a") as file:
                    file.write(ANNOUNCING.replace("{lines}", announcement.replace("\n", "\n    ")))

        yield place / "guest", rewrite
