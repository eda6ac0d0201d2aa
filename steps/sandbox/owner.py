"""Who made something outside of its own process, so that a later start can tell a dead maker's from a living one's."""

import hashlib
import os
import time
from pathlib import Path

from steps.sandbox import processes

_FIELDS = 6


def identity() -> str:
    """This process, by its machine, boot, pid namespace, pid and start; the last field tells apart its own owners."""
    started = processes.start_time(os.getpid())
    return ".".join((*_place(), str(os.getpid()), str(started), str(time.monotonic_ns())))


def is_dead(owner: str) -> bool:
    """Whether the process of that identity has certainly ended: False where that can't be seen from here."""
    fields = owner.split(".")
    if len(fields) != _FIELDS or not fields[3].isdecimal():
        return False
    machine, boot, namespace = _place()
    if fields[:3] == [machine, boot, namespace]:
        return str(processes.start_time(int(fields[3]))) != fields[4]
    return machine != "unknown" and fields[0] == machine and fields[1] != boot


def describe(owner: str) -> str:
    """The process of that identity, for a person: ``process 4711 of this machine``."""
    fields = owner.split(".")
    if len(fields) != _FIELDS:
        return "an unknown process"
    here = _place()
    if fields[:3] == list(here):
        return f"process {fields[3]} of this machine"
    where = "in another container of this machine" if fields[:2] == list(here[:2]) else "of another machine"
    return f"process {fields[3]} {where}"


def _place() -> tuple[str, str, str]:
    """The machine, its boot, and the pid namespace; the machine is a hash, since its id is nobody else's business."""
    machine = _read("/etc/machine-id")
    boot = _read("/proc/sys/kernel/random/boot_id")
    try:
        namespace = str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        namespace = "unknown"
    return _short(machine), _short(boot), namespace


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _short(text: str) -> str:
    return hashlib.sha256(b"stepbox" + text.encode()).hexdigest()[:12] if text else "unknown"
