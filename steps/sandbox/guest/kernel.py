"""The few system calls that Python's standard library has no name for.

``_ctypes`` is used directly: importing ``ctypes`` would double the start-up time of a sandbox.
"""

import _ctypes
import _signal  # type: ignore[import-not-found] # `signal` adds enumerations that cost as much
import os

PR_SET_DUMPABLE = 4
SIGKILL = _signal.SIGKILL
SIGNALS_PYTHON_IGNORES = [_signal.SIGPIPE, _signal.SIGXFSZ]

_THIS_PROCESS = _ctypes.dlopen(None, 0)  # type: ignore[arg-type] # typeshed leaves None out
_prctl = _ctypes.dlsym(_THIS_PROCESS, "prctl")


def set_dumpable(dumpable: bool) -> None:  # noqa: FBT001 - the call has one argument
    if _ctypes.call_cdeclfunction(_prctl, (PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)) != 0:
        raise OSError("prctl(PR_SET_DUMPABLE) failed")


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
