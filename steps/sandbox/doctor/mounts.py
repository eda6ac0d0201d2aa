"""Which file systems are mounted where, as /proc/PID/mountinfo tells it (proc_pid_mountinfo(5))."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_ESCAPED = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One mount: ``device`` is the file system's ``major:minor``, the same in every mount namespace."""

    device: str
    place: str
    kind: str
    source: str


def parse(lines: Iterable[str]) -> list[Mount]:
    """The mounts that lines of mountinfo tell of; lines of another form are passed over."""
    found = []
    for line in lines:
        before, dash, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if dash and len(fields) > 5 and len(rest) > 1:  # noqa: PLR2004 - the fields that every line has
            found.append(Mount(device=fields[2], place=_plain(fields[4]), kind=rest[0], source=_plain(rest[1])))
    return found


def mounts(proc: Path = Path("/proc")) -> Sequence[Mount]:
    """What is mounted for this process."""
    return parse((proc / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines())


def _plain(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
