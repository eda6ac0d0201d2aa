"""A program of its own: enters cgroups, ties its life to the engine's, and becomes a command.

    python3 -I -S launch.py ENGINE_PID [CGROUP_FILE…] -- COMMAND…

The kernel kills what it became (SIGKILL) when the thread that started it ends, whatever ends it. What goes wrong is
said on stderr.
"""

import _ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def main() -> None:
    separator = sys.argv.index("--")
    engine, entries, command = int(sys.argv[1]), sys.argv[2:separator], sys.argv[separator + 1 :]
    for entry in entries:
        try:
            descriptor = os.open(entry, os.O_WRONLY)
            os.write(descriptor, str(os.getpid()).encode())
            os.close(descriptor)
        except OSError as error:
            sys.exit(f"the cgroup {entry} can't be entered: {error.strerror}")
    prctl = _ctypes.dlsym(_ctypes.dlopen(None, 0), "prctl")  # type: ignore[arg-type] # typeshed leaves None out
    _ctypes.call_cdeclfunction(prctl, (PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
    if os.getppid() != engine:
        sys.exit("the engine has ended")
    os.execvpe(command[0], command, {"PATH": os.defpath})  # noqa: S606 - this is what it is for


main()
