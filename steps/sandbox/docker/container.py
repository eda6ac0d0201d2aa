"""What a container of ours is created with: its limits, and everything that is taken away from it."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from steps.sandbox.docker.runtime import Runtime
from steps.sandbox.limits import MB, Limits, default_limits
from steps.sandbox.protocol import ContainerCommand, Profile, guest_settings

USER = "1000:1000"
WORK = "/work"
SHM_SIZE = 16 * MB
WORK_INODES, SHM_INODES = 16_384, 1_024
MAX_OPEN_FILES = 1_024
CPU_PERIOD_US = 100_000
MIN_QUOTA_US = 1_000
OVERHEAD_PROCESSES = 1
"""The supervisor lives in the container beside the user's processes."""
OVERHEAD_MEMORY = 8_000_000
"""Bytes that it needs, on top of the memory that the step may use."""
SIDECAR_MEMORY, SIDECAR_PIDS = 64_000_000, 16
"""Of a sidecar in which no code runs; what it writes into the work directory comes on top."""
GVISOR_MEMORY = 48_000_000
"""Bytes that gVisor's own kernel needs beside the supervisor: measured 20 to 25 MB, more with many processes."""
GVISOR_PROCESSES, GVISOR_FACTOR = 128, 4
"""Threads of the machine that gVisor's kernel needs itself, and at most for each process of the code."""
SOCKET_BUFFERS = {"net.ipv4.tcp_rmem": "4096 65536 131072", "net.ipv4.tcp_wmem": "4096 16384 131072"}
"""Bytes of one connection: cgroups of version 1 don't count them as memory, and the Engine can't limit all together."""
OOM_SCORE, OOM_SCORE_OF_COMMAND = 500, 1000
"""When the machine's own memory is full, containers go before what else runs on it."""

OWNER_LABEL, DEADLINE_LABEL = "stepbox.owner", "stepbox.deadline"
GUEST_MAIN = "/opt/stepbox/steps/sandbox/guest/__main__.py"

_SECCOMP = Path(__file__).with_name("seccomp.json")
# Of the machine, and none of a step's business: its hardware, devices, kernel, load and terminals. Docker hides a few.
_MASKED = (
    "/sys",
    *("/dev/mqueue", "/dev/pts"),
    *(f"/proc/{name}" for name in ("acpi", "asound", "bus", "driver", "fs", "irq", "scsi", "sys", "tty")),
    *(
        f"/proc/{name}"
        for name in (
            *("buddyinfo", "cgroups", "cmdline", "config.gz", "consoles", "cpuinfo", "crypto", "devices", "diskstats"),
            *("dma", "execdomains", "fb", "filesystems", "interrupts", "iomem", "ioports", "kallsyms", "kcore"),
            *("key-users", "keys", "kmsg", "kpagecgroup", "kpagecount", "kpageflags", "latency_stats", "loadavg"),
            *("locks", "mdstat", "meminfo", "misc", "modules", "mtrr", "pagetypeinfo", "partitions", "pressure"),
            *("sched_debug", "schedstat", "slabinfo", "softirqs", "stat", "swaps", "sysrq-trigger", "timer_list"),
            *("timer_stats", "uptime", "version", "vmallocinfo", "vmstat", "zoneinfo"),
        )
    ),
)


def options(
    profile: Profile,
    *,
    image: str,
    python: str,
    unset: frozenset[str],
    labels: Mapping[str, str],
    runtime: Runtime,
    swap_unlimited: bool = False,
) -> dict[str, Any]:
    """The body of the Engine's call that creates the container of a sandbox.

    ``image`` is the guest image's id, ``python`` the interpreter in it, ``unset`` the variables that it sets;
    ``swap_unlimited`` says that the kernel has no limit of swap, as Debian's and Ubuntu's with cgroups of version 1.
    """
    limits = _at_start(profile)
    return {
        "Image": image,
        "Entrypoint": [python, "-I", "-S", "-X", "utf8", GUEST_MAIN],
        "Cmd": [profile.language, ",".join(sorted(profile.preload)), *guest_settings(profile)],
        "Env": _environment(unset),
        "User": USER,
        "WorkingDir": "/work",
        "Hostname": "stepbox",
        "Labels": dict(labels),
        **_STREAMS,
        # An image may ask for a command that the Engine runs inside now and then.
        "Healthcheck": {"Test": ["NONE"]},
        # The supervisor, being the first process, ends by no other signal.
        "StopSignal": "SIGKILL",
        "HostConfig": {
            **_hardening(runtime.name),
            # Else the name servers and the domain of the Engine's machine are there to be read.
            "Dns": ["127.0.0.1"],
            "DnsSearch": ["."],
            "Sysctls": {} if runtime.gvisor else SOCKET_BUFFERS,
            **_file_systems(profile),
            # A cgroup of version 1 that may not swap needs no limit of it.
            **({"MemorySwappiness": 0} if swap_unlimited else {}),
            **quotas(limits, runtime),
        },
    }


def command_options(
    command: ContainerCommand,
    environment: Mapping[str, str],
    limits: Limits,
    *,
    sidecar: str,
    labels: Mapping[str, str],
    runtime: Runtime,
    swap_unlimited: bool = False,
) -> dict[str, Any]:
    """The body of the Engine's call that creates the container of a step's own image.

    It shares the network namespace of its ``sidecar``, another container, by id, and that one's work directory; no
    process, no file system and no limit besides.
    """
    quota = quotas(limits, runtime)
    if not runtime.gvisor:
        quota |= {"Memory": limits.memory, "MemorySwap": limits.memory, "PidsLimit": limits.pids}
    return {
        "Image": command.image,
        "Entrypoint": [command.command[0]],
        "Cmd": list(command.command[1:]),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "User": USER,
        "WorkingDir": command.directory,
        "Labels": dict(labels),
        "Tty": False,
        "OpenStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **_hardening(runtime.name),
            # How it ended can be asked for until we have removed it.
            "AutoRemove": False,
            "NetworkMode": f"container:{sidecar}",
            "VolumesFrom": [f"{sidecar}:rw"],
            "OomScoreAdj": OOM_SCORE_OF_COMMAND,
            "Tmpfs": _own_file_systems(limits.disk),
            # The Engine would make a directory on its disk, which has no limit, of each that isn't mounted.
            "Mounts": [_volume(path, limits.disk) for path in command.volumes],
            **({"MemorySwappiness": 0} if swap_unlimited else {}),
            **quota,
        },
    }


def quotas(limits: Limits, runtime: Runtime) -> dict[str, int]:
    """The limits that the Engine sets, at a container's start or later, by their names in its API."""
    memory = limits.memory + (GVISOR_MEMORY if runtime.gvisor else OVERHEAD_MEMORY)
    pids = GVISOR_PROCESSES + GVISOR_FACTOR * limits.pids if runtime.gvisor else limits.pids + OVERHEAD_PROCESSES
    return {
        "Memory": memory,
        "MemorySwap": memory,
        "CpuPeriod": CPU_PERIOD_US,
        "CpuQuota": max(int(limits.cpu * CPU_PERIOD_US), MIN_QUOTA_US),
        "PidsLimit": pids,
    }


def started_with(profile: Profile, limits: Limits, runtime: Runtime) -> bool:
    """Whether a container of the profile holds a job to these limits as it is."""
    return quotas(_at_start(profile), runtime) == quotas(limits, runtime)


def step_environment(python: str) -> dict[str, str]:
    """What every step finds in its environment, before the job's own variables."""
    return {
        "PATH": "/opt/stepbox/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": "/work",
        "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "ARTIFACTS": "/work/artifacts",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "/opt/packages",
        "STEPBOX_PYTHON": python,
    }


_STREAMS = {
    "Tty": False,
    "OpenStdin": True,
    # With the connection of the one who attached, whatever ends it, the container's stdin ends too.
    "StdinOnce": True,
    "AttachStdin": True,
    "AttachStdout": True,
    "AttachStderr": True,
}


def _at_start(profile: Profile) -> Limits:
    if profile.limits is not None:
        return profile.limits
    if profile.sidecar:
        return Limits(memory=SIDECAR_MEMORY + profile.disk, pids=SIDECAR_PIDS)
    defaults = default_limits(profile.language)
    return Limits(memory=profile.memory, cpu=defaults.cpu, pids=defaults.pids)


def _environment(unset: frozenset[str]) -> list[str]:
    """What the supervisor itself finds; the step's own environment comes with the job.

    A name without a value takes the image's variable away.
    """
    own = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    return [*(f"{name}={value}" for name, value in own.items()), *sorted(unset - own.keys())]


def _file_systems(profile: Profile) -> dict[str, Any]:
    own = _own_file_systems(profile.disk)
    if profile.sidecar:
        return {"Tmpfs": own, "Mounts": [_volume(WORK, profile.disk)]}
    return {"Tmpfs": {**own, WORK: f"rw,exec,{_users_own(profile.disk)}"}}


def _volume(path: str, size: int) -> dict[str, Any]:
    """A volume in memory. Without a name it goes with the last container that has it."""
    driver = {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": _users_own(size)}}
    return {"Type": "volume", "Target": path, "VolumeOptions": {"NoCopy": True, "DriverConfig": driver}}


def _users_own(size: int) -> str:
    return f"nosuid,nodev,size={size},nr_inodes={WORK_INODES},mode=0755,uid=1000,gid=1000"


def _own_file_systems(disk: int) -> dict[str, str]:
    """Those that every container has for itself."""
    size = f"rw,exec,nosuid,nodev,size={disk},nr_inodes={WORK_INODES}"
    return {
        "/tmp": f"{size},mode=1777",  # noqa: S108 - the sandbox's own
        "/dev/shm": f"rw,noexec,nosuid,nodev,size={min(SHM_SIZE, disk)},nr_inodes={SHM_INODES},mode=1777",  # noqa: S108
    }


def _hardening(runtime: str | None) -> dict[str, Any]:
    return {
        # The Engine removes the container when it has ended, whether or not we are still there.
        "AutoRemove": True,
        "Runtime": runtime or "",
        "NetworkMode": "none",
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "ReadonlyRootfs": True,
        "Privileged": False,
        "Init": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", f"seccomp={_seccomp()}"],
        "MaskedPaths": list(_MASKED),
        "LogConfig": {"Type": "none"},
        "OomScoreAdj": OOM_SCORE,
        "Ulimits": [
            {"Name": "nofile", "Soft": MAX_OPEN_FILES, "Hard": MAX_OPEN_FILES},
            # The kernel gives a crash with exactly this limit not even to the machine's handler of crashes.
            {"Name": "core", "Soft": 1, "Hard": 1},
            # An Engine may have more of these itself than its containers should.
            {"Name": "nice", "Soft": 0, "Hard": 0},
            {"Name": "rtprio", "Soft": 0, "Hard": 0},
        ],
    }


@cache
def _seccomp() -> str:
    return json.dumps(json.loads(_SECCOMP.read_text(encoding="utf-8")))
