"""One cgroup a sandbox, of version 1 or 2: limits, counters, and the certainty that nothing is left.

The tree is ``stepbox/OWNER/SANDBOX`` in each hierarchy, where OWNER names this process by its pid namespace, pid and
start time, so that the next start can tell what a killed engine left behind from what a living one uses.
"""

import errno
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from steps.sandbox import processes
from steps.sandbox.limits import Limits

ROOT_NAME = "stepbox"
CPU_PERIOD_US = 100_000
MIN_QUOTA_US = 1_000
OVERHEAD_PROCESSES = 1
"""The supervisor lives in the cgroup beside the user's processes."""
OVERHEAD_MEMORY = 8_000_000
"""What it needs, in bytes, on top of the memory that the step may use."""
STARTING = "starting"
"""The cgroup in which jails begin, before each gets its own."""
TCP_SHARE = 4
"""The part of the memory that buffers of TCP and UDP may take on top, where cgroups count them apart."""
WAITING_SHARES, RUNNING_SHARES = 64, 1024
WAITING_WEIGHT, RUNNING_WEIGHT = 10, 100


class Cgroup:
    """The cgroup of one sandbox, in one hierarchy (version 2) or several (version 1)."""

    def __init__(self, directories: Mapping[str, Path], version: int) -> None:
        self._directories = directories
        self._version = version

    @property
    def entries(self) -> list[Path]:
        """The files into which a process writes its pid to enter."""
        return [directory / "cgroup.procs" for directory in dict.fromkeys(self._directories.values())]

    def enter(self, pid: int) -> None:
        """Move a process into the cgroup, and with it all that it will start.

        Raises:
            OSError: the kernel refused it; ``ESRCH``: the process has ended.
        """
        for entry in self.entries:
            entry.write_text(str(pid))

    def yield_to_others(self) -> None:
        """Let everything else go first, while the sandbox is only getting ready."""
        if self._version == 1:
            self._write("cpu", "cpu.shares", WAITING_SHARES)
        else:
            self._write("cpu", "cpu.weight", WAITING_WEIGHT)

    def limit(self, limits: Limits) -> None:
        """Set the limits of the job.

        Raises:
            OSError: the kernel refused one of them.
        """
        memory = limits.memory + OVERHEAD_MEMORY
        pids = limits.pids + OVERHEAD_PROCESSES
        quota = max(int(limits.cpu * CPU_PERIOD_US), MIN_QUOTA_US)
        if self._version == 1:
            self._write("memory", "memory.limit_in_bytes", memory)
            with suppress(FileNotFoundError):
                self._write("memory", "memory.memsw.limit_in_bytes", memory)
            # The buffers of TCP and UDP, which version 1 counts apart, and version 2 with the rest.
            with suppress(FileNotFoundError):
                self._write("memory", "memory.kmem.tcp.limit_in_bytes", limits.memory // TCP_SHARE)
            self._write("pids", "pids.max", pids)
            self._write("cpu", "cpu.cfs_quota_us", quota)
            self._write("cpu", "cpu.shares", RUNNING_SHARES)
        else:
            self._write("memory", "memory.max", memory)
            with suppress(FileNotFoundError):
                self._write("memory", "memory.swap.max", 0)
            self._write("pids", "pids.max", pids)
            self._write("cpu", "cpu.max", f"{quota} {CPU_PERIOD_US}")
            self._write("cpu", "cpu.weight", RUNNING_WEIGHT)

    def limit_sockets(self, size: int) -> None:
        """Limit the bytes that wait in TCP connections, where version 1 counts them apart and we may set it."""
        if self._version == 1:
            with suppress(OSError):
                self._write("memory", "memory.kmem.tcp.limit_in_bytes", size)

    def oom_kills(self) -> int:
        """How many processes the kernel ended because the memory limit was reached."""
        name = "memory.oom_control" if self._version == 1 else "memory.events"
        return self._field("memory", name, "oom_kill") or 0

    def peak_memory(self) -> int | None:
        """Bytes of all of the sandbox, the supervisor and the page cache that it filled included."""
        name = "memory.max_usage_in_bytes" if self._version == 1 else "memory.peak"
        text = self._read("memory", name)
        return int(text) if text else None

    def cpu_time(self) -> float | None:
        """Seconds since the sandbox started."""
        if self._version == 1:
            text = self._read("cpuacct", "cpuacct.usage")
            return int(text) / 1e9 if text else None
        microseconds = self._field("cpu", "cpu.stat", "usage_usec")
        return None if microseconds is None else microseconds / 1e6

    def kill(self) -> None:
        """End every process that is in the cgroup now."""
        if self._version == 2:  # noqa: PLR2004 - the version of cgroups
            with suppress(OSError):
                self._write("memory", "cgroup.kill", 1)
                return
        for pid in self._pids():
            processes.kill(pid)

    def remove(self) -> bool:
        """Remove the cgroup; False where processes that are ending still hold it."""
        return all([_remove(directory) for directory in dict.fromkeys(self._directories.values())])  # noqa: C419

    def _pids(self) -> list[int]:
        text = self._read("memory", "cgroup.procs")
        return [int(pid) for pid in text.split()] if text else []

    def _write(self, controller: str, name: str, value: object) -> None:
        descriptor = os.open(self._directories[controller] / name, os.O_WRONLY)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)

    def _read(self, controller: str, name: str) -> str | None:
        try:
            return (self._directories[controller] / name).read_text()
        except (OSError, KeyError):
            return None

    def _field(self, controller: str, name: str, key: str) -> int | None:
        for line in (self._read(controller, name) or "").splitlines():
            if line.startswith(f"{key} "):
                return int(line.split()[1])
        return None


class CgroupTree:
    """The cgroups of this engine. ``roots`` holds the directory of each controller under which it makes them."""

    def __init__(self, roots: Mapping[str, Path], version: int) -> None:
        self._version = version
        self._names = count(1)
        self._parents = dict(roots)
        owner = _owner()
        self._owners = {controller: root / owner for controller, root in roots.items()}

    def open(self) -> None:
        """Remove what killed engines left, and make this one's parents.

        Raises:
            OSError: cgroups can't be written here.
        """
        for root in dict.fromkeys(self._parents.values()):
            root.mkdir(exist_ok=True)
            self._let_children_control(root.parent)
            self._let_children_control(root)
        for root in dict.fromkeys(self._parents.values()):
            for leftover in _orphans(root):
                _remove_tree(leftover)
        for directory in dict.fromkeys(self._owners.values()):
            directory.mkdir(parents=True, exist_ok=True)
            self._let_children_control(directory)
        self._weigh_as_processors()
        self._starting = self._make(STARTING)

    def _weigh_as_processors(self) -> None:
        """Give all sandboxes together the weight of a process on each processor, where single processes are the rivals.

        That is so in version 1; otherwise all sandboxes together would have the weight of one process.
        """
        if self._version == 1:
            for directory in (self._parents["cpu"], self._owners["cpu"]):
                with suppress(OSError):
                    (directory / "cpu.shares").write_text(str(RUNNING_SHARES * (os.cpu_count() or 1)))

    def create(self) -> Cgroup:
        """The cgroup of one sandbox, which yields to others until it has its limits."""
        return self._make(f"sandbox-{next(self._names)}")

    @property
    def starting(self) -> Cgroup:
        """Where sandboxes begin, before each enters its own; it yields to others."""
        return self._starting

    def _make(self, name: str) -> Cgroup:
        directories = {controller: owner / name for controller, owner in self._owners.items()}
        for directory in dict.fromkeys(directories.values()):
            directory.mkdir()
        cgroup = Cgroup(directories, self._version)
        cgroup.yield_to_others()
        return cgroup

    def _let_children_control(self, directory: Path) -> None:
        if self._version == 2:  # noqa: PLR2004 - the version of cgroups
            (directory / "cgroup.subtree_control").write_text("+memory +pids +cpu")

    def close(self) -> None:
        """Remove this engine's parents, and the common ones where no other engine uses them."""
        for directory in dict.fromkeys(self._owners.values()):
            _remove_tree(directory)
        for root in dict.fromkeys(self._parents.values()):
            with suppress(OSError):
                root.rmdir()


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """One mounted cgroup hierarchy: where, of which version, with which controllers."""

    path: Path
    version: int
    controllers: frozenset[str]


def find_tree() -> CgroupTree | None:
    """The cgroups that this process may make, opened; None where it may make none that limit memory."""
    mounted = list(_hierarchies())
    for tree in _candidates(mounted):
        try:
            tree.open()
        except OSError:
            tree.close()
            continue
        return tree
    return None


def of_container(pid: int, container: str) -> Cgroup | None:
    """The cgroup of a container's first process, to read from; None where the process isn't one of this machine.

    ``container`` is its id, which Docker's name of the cgroup has in it: a pid alone could be another machine's.
    """
    places: dict[str, Path] = {}
    version = 1
    with suppress(OSError):
        memberships = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
        for hierarchy in _hierarchies():
            if hierarchy.version == 1:
                named = {name: path for names, path in memberships.items() for name in names.split(",")}
                found = {name: named.get(name, "") for name in hierarchy.controllers}
            else:
                found = dict.fromkeys(("memory", "pids", "cpu"), memberships.get("", ""))
            for controller, path in found.items():
                directory = hierarchy.path / path.lstrip("/")
                if container in path and (directory / "cgroup.procs").exists() and controller not in places:
                    if hierarchy.version == 2 and "memory" not in hierarchy.controllers:  # noqa: PLR2004
                        continue
                    places[controller] = directory
                    version = hierarchy.version
    return Cgroup(places, version) if "memory" in places else None


def _candidates(mounted: list[Hierarchy]) -> Iterator[CgroupTree]:
    for hierarchy in mounted:
        if hierarchy.version == 2 and {"memory", "pids", "cpu"} <= hierarchy.controllers:  # noqa: PLR2004
            if os.geteuid() == 0:
                yield CgroupTree(dict.fromkeys(("memory", "pids", "cpu"), hierarchy.path / ROOT_NAME), 2)
            root = _delegated(hierarchy.path)
            if root is not None:
                yield CgroupTree(dict.fromkeys(("memory", "pids", "cpu"), root), 2)
    roots = {
        controller: hierarchy.path / ROOT_NAME
        for hierarchy in mounted
        if hierarchy.version == 1
        for controller in hierarchy.controllers & {"memory", "pids", "cpu", "cpuacct"}
    }
    if {"memory", "pids", "cpu"} <= set(roots):
        yield CgroupTree(roots, 1)


def _hierarchies() -> Iterator[Hierarchy]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _dash, after = line.partition(" - ")
        kind, _source, options = after.split(" ", 2)
        path = Path(before.split()[4])
        if kind == "cgroup":
            yield Hierarchy(path=path, version=1, controllers=frozenset(options.split(",")))
        elif kind == "cgroup2":
            with suppress(OSError):
                controllers = frozenset((path / "cgroup.controllers").read_text().split())
                yield Hierarchy(path=path, version=2, controllers=controllers)


def _delegated(mount: Path) -> Path | None:
    """A directory below our own cgroup, where that was delegated to us and holds no other process.

    A cgroup with children can't hold processes itself, so this one moves to a leaf of its own.
    """
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        if not line.startswith("0::"):
            continue
        own = mount / line[3:].strip().lstrip("/")
        if own.name == "stepbox-engine":
            return own.parent / ROOT_NAME
        try:
            if (own / "cgroup.procs").read_text().split() != [str(os.getpid())]:
                return None
            leaf = own / "stepbox-engine"
            leaf.mkdir(exist_ok=True)
            (leaf / "cgroup.procs").write_text(str(os.getpid()))
            (own / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        except OSError:
            return None
        return own / ROOT_NAME
    return None


def _owner() -> str:
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    serial = time.monotonic_ns()
    return f"{namespace}-{os.getpid()}-{processes.start_time(os.getpid())}-{serial}"


def _orphans(root: Path) -> Iterator[Path]:
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    with suppress(OSError):
        for directory in sorted(root.iterdir()):
            fields = directory.name.split("-")
            if directory.is_dir() and len(fields) == 4 and fields[0] == str(namespace):  # noqa: PLR2004
                pid, started = int(fields[1]), fields[2]
                if str(processes.start_time(pid)) != started:
                    yield directory


def _remove_tree(directory: Path) -> None:
    """Kill what still runs in a cgroup and those below it, then remove them."""
    try:
        below = [path for path in directory.iterdir() if path.is_dir()]
    except OSError:
        return
    for path in below:
        _remove_tree(path)
    for _attempt in range(200):
        with suppress(OSError):
            for pid in (directory / "cgroup.procs").read_text().split():
                processes.kill(int(pid))
        if _remove(directory):
            return
        time.sleep(0.005)


def _remove(directory: Path) -> bool:
    try:
        directory.rmdir()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENODEV)
    return True
