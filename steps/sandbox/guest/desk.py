"""How a supervisor gets its line to the host where the starter of jails has made it: announced over its stdin.

Its stdin is then the host's desk, a socket that all jails of one nsjail process share one after the other. The
supervisor sends one end of a new socket pair over it and keeps the other as its own stdin and stdout, so that the desk
is closed before anything but the supervisor runs.
"""

from __future__ import annotations

import _socket
import os
import sys

DESK, HOST_OUT = 0, 1


def announce() -> bool:
    """Exchange the desk for a line of our own and wait until the host lets us begin; False where it is gone."""
    theirs, own = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    desk = _socket.socket(fileno=DESK)
    line = theirs.fileno().to_bytes(4, sys.byteorder)
    desk.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, line)])
    desk.detach()
    theirs.close()
    os.dup2(own.fileno(), DESK)
    os.dup2(own.fileno(), HOST_OUT)
    own.close()
    return os.read(DESK, 1) != b""
