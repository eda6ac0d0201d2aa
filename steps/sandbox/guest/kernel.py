"""The few system calls that Python's standard library has no name for.

``_ctypes`` is used directly: importing ``ctypes`` would double the start-up time of a sandbox.
"""

import _ctypes
import _signal  # type: ignore[import-not-found] # `signal` adds enumerations that cost as much
import os
import sys

PR_SET_DUMPABLE = 4
RLIMIT_CORE = 4
SIGKILL = _signal.SIGKILL
SIGNALS_PYTHON_IGNORES = [_signal.SIGPIPE, _signal.SIGXFSZ]

_THIS_PROCESS = _ctypes.dlopen(None, 0)  # type: ignore[arg-type] # typeshed leaves None out
_prctl = _ctypes.dlsym(_THIS_PROCESS, "prctl")
_setrlimit = _ctypes.dlsym(_THIS_PROCESS, "setrlimit")


def set_dumpable(dumpable: bool) -> None:  # noqa: FBT001 - the call has one argument
    if _ctypes.call_cdeclfunction(_prctl, (PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


def leave_no_core() -> None:
    """Keep crashes in the sandbox from starting the host's handler of core dumps, which a limit of 0 doesn't stop.

    A limit of 1 byte does (core(5)). Where the limit is 0 already and may not be raised, that is left.
    """
    one = (1).to_bytes(8, sys.byteorder)
    _ctypes.call_cdeclfunction(_setrlimit, (RLIMIT_CORE, one + one))


def ignore_interrupt() -> None:
    """Give up Python's own SIGINT handler, so that no signal from inside the sandbox reaches the supervisor."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)


def watch_children() -> int:
    """A descriptor that becomes readable when a child has ended."""
    ended, tell = os.pipe()
    os.set_blocking(ended, False)
    os.set_blocking(tell, False)
    _signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda _number, _frame: None)
    return ended


def default_signals() -> None:
    """Give the user's process the signal handling of a fresh interpreter."""
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
