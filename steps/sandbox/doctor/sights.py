"""What the host sees of a sandbox's processes, in its own /proc.

An attack marks its processes by their name (``comm``). Where a runner's processes are not this machine's (a remote
engine, a kernel in user space), nothing is seen, and the verdict rests on what the code inside reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MAX_MARK = 15
"""Characters of a process's name that the kernel keeps (TASK_COMM_LEN less its end, proc(5))."""


@dataclass(frozen=True, kw_only=True)
class Sight:
    """A process on the host. ``status`` are the fields of /proc/PID/status; ``terminal`` is 0 where it has none."""

    pid: int
    status: Mapping[str, str]
    terminal: int


def marked(mark: str, proc: Path = Path("/proc")) -> list[Sight]:
    """The living processes of that name."""
    found = []
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        try:
            if (directory / "comm").read_text().rstrip("\n") != mark:
                continue
            fields = (line.partition(":\t") for line in (directory / "status").read_text().splitlines())
            status = {name: value.strip() for name, _colon, value in fields}
            stat = (directory / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if status.get("State", "Z")[0] not in "ZX":
            found.append(Sight(pid=int(directory.name), status=status, terminal=int(stat[4])))
    return found
